// Package sealed stores records, each encrypted under a key of its own. Open a Store; Create a space for each customer;
// declare a Table of a Go type; Put, Get and Delete records in the transactions of Space.Update and Space.View. A
// space's Bundle holds its keys: put them under a customer's key with Wrap and Turn, close the space with Lock, open it
// with Load. Space.Erase deletes so that no older copy opens either; Store.Backup and Restore carry a store to another
// machine.
//
// It is the only way to the disk: everything Visage persists is sealed here, and nothing else can write.
//
// A Store holds spaces. A space has keys of its own (a data key per generation, wrapped in its bundle, and an epoch key
// kept outside the data store) and opens only while its lease lives. Inside a space, rooms declare typed tables and
// speak of containers and ids; every id is blinded, every value is encrypted under a key used for that one message, and
// the secrets those keys come from sit in key pages that double as the authenticated directory of what exists. There is
// no plaintext mode and no call that takes a raw row key.
//
// docs/formats describes what lies on disk, byte by byte; docs/formats/containers.md how pages, writers and folding
// meet.
package sealed
