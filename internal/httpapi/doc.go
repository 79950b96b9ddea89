// Package httpapi is the HTTP/JSON endpoint of a host and its client. docs/http.md is the reference for both; this page
// says how it is built.
//
//   - The server sees a host through the interface Host and adds no state to it: each request is one call of the host,
//     or a stream of one of its iterators.
//   - Every error is a JSON object with the number of the application contract, a kind and its details, and the client
//     turns it back into the typed error it was. A lost leadership is never reported as a sequence mismatch.
//   - Input is bounded and strict: bodies have a limit, unknown, duplicate and misspelt keys are refused, the number of
//     requests at work is limited, and everything has a deadline.
//   - There are no passwords. Who can connect may do everything, so an address is served only if it is loopback, a unix
//     socket, or behind mutual TLS; browsers are kept out by refusing foreign origins and foreign Host headers.
//
// Goroutines: net/http's, all of which end in Server.Serve's return.
//
// What it does not do: forward requests to the leader (the client follows the leader among the endpoints it was given),
// or authorize one client differently from another.
package httpapi
