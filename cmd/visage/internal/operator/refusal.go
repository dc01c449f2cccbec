package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// Refused is the error of a request that the server refused.
type Refused struct {
	Status  int
	Code    string
	Message string
}

// Error returns the server's sentence and its code.
func (r *Refused) Error() string { return fmt.Sprintf("%s (%d %s)", r.Message, r.Status, r.Code) }

// Problem reads an error answer of the server. Management plane and vaults have the same shape.
func Problem(res *http.Response, body []byte) error {
	var said armwire.ErrorAnswer
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Code == "" {
		return &Refused{res.StatusCode, http.StatusText(res.StatusCode), "the server gave no reason for its refusal"}
	}
	return &Refused{res.StatusCode, said.Error.Code, said.Error.Message}
}

// IsRefused reports whether the server refused with a code.
func IsRefused(err error, code string) bool {
	r, ok := errors.AsType[*Refused](err)
	return ok && r.Code == code
}

// Advise adds a helpful command to a refusal. name is the resource of the refused command.
func Advise(err error, name string) error {
	if _, advised := errors.AsType[*command.Failure](err); advised {
		return err
	}
	r, ok := errors.AsType[*Refused](err)
	if !ok {
		return err
	}
	switch r.Code {
	case "ResourceNotFound":
		return command.Hinted(err, "\"visage resource list\" lists the resources")
	case "AccessRequestNotFound":
		return command.Hinted(err, "\"visage cmk requests\" lists the requests")
	case "LegalHold", "LegalHoldNotFound":
		return command.Hinted(err, "\"visage hold list %s\" lists the legal holds", name)
	case "FlagMustBeSetForRestore":
		return command.Hinted(err,
			"\"visage resource recover %s\" restores it, \"visage resource purge %s --yes\" destroys it", name, name)
	case "CustomerManagedKeyNotApproved":
		return command.Hinted(err,
			"\"visage cmk request\" requests approval, \"visage cmk requests\" shows the state of the requests")
	}
	return err
}
