package cmk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

func check() *cobra.Command {
	var k key
	c := command.New("check NAME", "Say what is missing before a key can encrypt a resource's data, and change nothing",
		"visage cmk check vip --key hashivault://vault.example.org/transit/keys/faces")
	k.define(c)
	operator.Complete(c, operator.Resources)
	return operator.Judge(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) (armwire.EncryptionCheck, error) {
		want, err := k.request(ctx, o)
		if err != nil {
			return armwire.EncryptionCheck{}, err
		}
		var answer armwire.EncryptionCheck
		err = o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/encryption:check", want, &answer)
		return answer, err
	}, checkTable, func(a armwire.EncryptionCheck) error {
		if a.Ready {
			return nil
		}
		return errors.New("the key cannot be used yet: something is missing")
	})
}

// states are the states of a requirement in the table.
var states = map[string]string{"met": "yes", "unmet": "no", "not-known": "unknown", "will-be-met": "on the way"}

func checkTable(t *command.Table, a armwire.EncryptionCheck) {
	t.Row("REQUIREMENT", "MET", "ANSWER")
	for _, point := range a.Checks {
		t.Row(point.Requirement, states[point.State], command.Dash(point.Message))
	}
	if told := a.Answer; told != nil {
		t.Line("")
		t.Line("%s", answerLine(*told))
	}
	for _, point := range a.Checks {
		if len(point.Remedy) == 0 {
			continue
		}
		t.Line("")
		t.Line("%s:", point.Requirement)
		for _, line := range point.Remedy {
			t.Line("  %s", line)
		}
	}
}

// answerLine says how the store has answered: its class, the key, the time that it took, and the days that the key has.
func answerLine(a armwire.EncryptionAnswer) string {
	took := fmt.Sprintf("after %.1f ms", a.Milliseconds)
	if a.Class != "ok" {
		return fmt.Sprintf("the store answered %s %s", a.Class, took)
	}
	return fmt.Sprintf("the store answered ok %s: %s, version %s, %s", took, command.Dash(a.KeyType),
		command.Dash(a.KeyVersion), expiry(a.Expires, time.Now()))
}

// expiry says when a key ends, in days.
func expiry(stamp string, now time.Time) string {
	ends, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return "no expiry date"
	}
	day := ends.UTC().Format(time.DateOnly)
	if !now.Before(ends) {
		return "expired on " + day
	}
	return fmt.Sprintf("expires in %d days, on %s", int(ends.Sub(now)/(24*time.Hour)), day)
}
