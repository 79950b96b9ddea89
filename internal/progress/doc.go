// Package progress shows how far something has come: bars on a terminal, plain lines anywhere else, so that a log or a
// pipe stays readable and holds no control characters.
//
// While bars are shown, all other text must go through the Group, which keeps the two apart.
package progress
