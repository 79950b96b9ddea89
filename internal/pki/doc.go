// Package pki makes the certificates of a cluster's links: one authority per cluster, and a pair for each host.
//
// A host's certificate serves both sides of a link and carries the host's name, as the mesh wants it (docs/wire-format.md). Keys are
// ECDSA on P-256. The authority signs hosts' certificates and nothing else; its key is needed only to make them, and no
// host ever reads it.
//
// It is enough for a cluster that is nobody else's business. An authority of one's own does as well: the mesh takes any PEM
// files whose certificates carry the hosts' names.
package pki
