// Package config holds the cluster file: its types, a strict reader, the rules it must obey, the planner that generates
// it, the figures that judge it, and the watcher that notices when an operator has changed it.
//
// # The file
//
// One JSON object names the cluster, its hosts and its partitions (design §11). It is the only place that says which
// host should be a member of which partition; each partition's leader moves its Raft configuration towards it.
//
//	{
//	  "cluster": "prod-1",
//	  "version": 7,
//	  "tls": {"cert": "tls/{host}.crt", "key": "tls/{host}.key", "ca": "tls/ca.pem"},
//	  "gossipKey": "q83vASNFZ4mrze8BI0VniQ==",
//	  "hosts": {
//	    "h1": {"addr": "10.0.0.1:7400", "zone": "a", "http": "10.0.0.1:7480"}
//	  },
//	  "partitions": [
//	    {"id": 0, "from": "0000000000000000", "voters": ["h1"], "replicas": [], "prefer": "h1"}
//	  ]
//	}
//
// A partition owns the hashes from its "from" to the one before the next partition's; the last one ends at 2^64−1.
// Keys that may be left out: insecure, tls, gossipKey, zone, http, replicas, prefer, and the address of an only host, which
// nobody dials. A host without a zone is a zone of its own; http only tells clients where the host's HTTP endpoint is. In the
// paths of tls, {host} stands for the name of the host that reads the file.
//
// # Ideas
//
//   - Strict, and everything at once. An operator's typing error must not become a membership change, so unknown and
//     duplicate keys, nulls and trailing bytes are errors; and all problems of a file are reported together, each with
//     its JSON path and line (InvalidError).
//   - Validate is total and does no I/O: it judges a value the same way wherever it came from.
//   - Planning is a search. A layout has a cost made of ranks that do not trade with each other: zone spread (and the
//     cap on peers) before balanced members, those before balanced leaders, those before how evenly a dead host's load
//     falls on the survivors. Replan adds a price for each copy that has to move. The search is seeded, so equal input
//     gives equal output on every machine.
//   - The watcher compares content, never times; a file that is unreadable, invalid or no successor of the one in force
//     changes nothing but a counter and the status.
//
// # Invariants
//
//   - Parse returns a cluster that Validate accepts, and Parse(Marshal(c)) equals c.
//   - The ranges of a valid cluster cover the hash space without gap or overlap, in order.
//   - The watcher's versions only grow, and the partitions' identities and ranges never change under it.
//
// # What it does not do
//
// It does not resolve names, open the TLS files or talk to hosts, and it does not split partitions: a file that changes
// a range would strand documents, and is refused as a successor.
package config
