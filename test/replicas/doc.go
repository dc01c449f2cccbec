// Package replicas tests several processes of the program over one PostgreSQL, from outside: what one of them has
// acknowledged holds at all of them, also when processes are killed or paused. The package consists of tests.
//
// A plain test run takes two replicas through what a customer does, replaces them under load, also by those of a
// version with another format and back, kills one during a change of keys, kills and stops some of three that search
// a group together, and, as root, takes the volume of the epoch keys away. With the argument -attack, which "make
// prove-replicas" gives, three replicas, which search groups together, are killed and paused, and their database
// crashes, while clients use them; then their disks fill up, fail, hang and go away; then machines of a network of
// their own lose power and network, with a database that fails over. The histories of enrolments, deletions, searches,
// locks, erasures of resources and rotations of keys are checked to be linearizable, where docs/operations/cluster.md
// promises no less, and a report is written.
package replicas
