// Package remote searches the partitions of a collection on the replicas that have them in memory, with the answer of
// one gallery that holds everything: the same matches in the same order.
//
// A Client sends a query to one replica of each partition, and merges what they answer with gallery.Merge. A Server
// answers for the partitions of its process, which it asks a Searcher for. They speak HTTP/2 with mutual TLS (package
// peer) and one binary format with a version (format.go).
//
// # All or nothing
//
// An answer without one of the partitions could leave out the very person who was searched for, so there is none: when
// no replica of a partition answers, Search returns an *UnavailableError, which the caller turns into a 503 with
// Retry-After. What is wrong with an answer makes it none (check.go): a replica may be of another instance or version,
// may have an older state, or may lie. An answer that is well-formed and within what was asked cannot be told from a
// true one, so the certificate of a replica is worth as much as the data that it answers for.
//
// # Which state is searched
//
// A query has the caller's Stamp: the sequence of the key bundle, by which a resource is open, and the collection's
// change counter. A replica answers for the same bundle and for that counter or a later one. One that has not come so
// far catches up first, or is passed over; one whose bundle is newer makes the caller read again (ErrBehind), because
// the caller may not have noticed that the resource was locked.
//
// # Slow and dead replicas
//
// When a replica does not answer within the time that 95 of 100 answers for the collection take, and three milliseconds
// at least, a second one is asked too, and the first answer counts (hedged requests: Dean and Barroso, The Tail at
// Scale, 2013). Such requests are at most a tenth of all, so that they do not double the load when all replicas are
// slow; after ten times that time the second one is asked in any case. When one fails, the next is asked at once. A
// replica that failed, or was slower than a hedge twice, is asked last for a while.
//
// # Secrets
//
// Probes are templates: they identify people. The buffers of this package that hold them are cleared when a request
// ends, however it ends. Copies in the buffers of net/http and crypto/tls are not within reach; those of TLS hold
// ciphertext after a record is written, and all are garbage soon after the request. Candidates are ids and scores.
package remote
