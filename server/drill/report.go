package drill

import (
	"fmt"
	"time"
)

// Report is the result of a rehearsal.
type Report struct {
	Resource string    `json:"resource"`
	Key      string    `json:"key"`
	Began    time.Time `json:"began"`
	Backup   string    `json:"backup"` // the backup that the copy was made from
	Rows     int64     `json:"rows"`
	Road     string    `json:"road"` // how access was removed
	// ToRefusal is the time from there to the first refusal of a data operation; with Plan.Key, from the last answer by
	// which the key allowed its use.
	ToRefusal string `json:"toRefusal"`
	// ToOpen is the time from restoring access to the first answer; with Plan.Key, from asking its holder for that.
	ToOpen string  `json:"toOpen"`
	Others int     `json:"others"` // resources under the service's key that remained available
	Checks []Check `json:"checks"`
	Passed bool    `json:"passed"` // every check has held
}

// Check is one thing that a revocation must do, or must leave alone.
type Check struct {
	Name string `json:"name"` // one of the names below
	What string `json:"what"`
	Held bool   `json:"held"`
	Said string `json:"said,omitempty"` // by the copy
}

// The names of the checks, in their order.
const (
	CheckRefused = "refused" // data operations were refused after Report.ToRefusal
	CheckReason  = "reason"  // the resource says why
	CheckKeys    = "keys"    // its access keys can be listed
	CheckListed  = "listed"  // the other resources can be listed; only where they cannot
	CheckOthers  = "others"  // Report.Others other resources remain available
	CheckOpened  = "opened"  // the data was available Report.ToOpen after access was restored
	CheckAnswers = "answers" // they are the same as before
)

func (r *Report) check(name string, held bool, said, format string, args ...any) {
	r.Checks = append(r.Checks, Check{name, fmt.Sprintf(format, args...), held, said})
	r.Passed = r.Passed && held
}

// Step is a step of a rehearsal.
type Step string

// The steps, in the order in which they are taken.
const (
	StepBackup   Step = "backup"  // copy the data of the running server
	StepKeyring  Step = "keyring" // copy its epoch keys
	StepRestore  Step = "restore" // make the data of the copy
	StepStart    Step = "start"   // start the copy, and wait until the resource is open
	StepMove     Step = "move"    // put the resource of the copy under Plan.Key; only with one that is another
	StepRevoke   Step = "revoke"  // remove access to the key, and wait until data is refused
	StepInspect  Step = "inspect" // look at the locked resource, and at the others
	StepGiveBack Step = "give-back"
	StepRemove   Step = "remove" // stop the copy, and remove its files
)
