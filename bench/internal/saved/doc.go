// Package saved reads the JSON objects that bench and bench/peers print, and gives them one shape.
//
// # Ideas
//
//   - A file is recognized by what it has: variants are a run of bench, loads a comparison of bench/peers, a system with
//     writesPerSecond one measurement of it.
//   - Fields that are not known are passed over, so that files of a later bench can be read as far as they are the same.
//     What is needed and absent or of another type is an error that names it.
//   - Figures may be absent, and those of single rounds null: that is NaN here.
//
// # What it does not do
//
// It does not judge figures: medians and ratios are those of the file.
package saved
