package cmk

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// The paths of access requests and of the capacity, for operator.Client.Provider.
const (
	accessRequests = "/accessRequests"
	accessCapacity = "/accessCapacity/E0"
)

func request() *cobra.Command {
	var opts struct{ region, contact, reason string }
	c := command.New("request [NAME]",
		"Request a resource of tier E0, which can have a customer-managed key",
		"visage cmk request pilot --contact ann@example.org --reason \"pilot of the front desk\"")
	f := c.Flags()
	f.StringVar(&opts.region, "region", "", "`LOCATION` of the resource (default: any)")
	f.StringVar(&opts.contact, "contact", "", "`ADDRESS` for the operator's answer (required)")
	f.StringVar(&opts.reason, "reason", "", "`PURPOSE` of the resource (required)")
	return operator.Show(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) ([]armwire.AccessRequest, error) {
		if opts.contact == "" || opts.reason == "" {
			return nil, command.Misuse("--contact and --reason are required: the operator decides by them")
		}
		name := "request-" + strings.ToLower(rand.Text()[:8])
		if len(args) == 1 {
			name = args[0]
		}
		var body armwire.AccessRequestBody
		body.Properties.Service, body.Properties.Region = "Face", opts.region
		body.Properties.Contact, body.Properties.Reason = opts.contact, opts.reason
		var made armwire.AccessRequest
		err := o.Provider(ctx, http.MethodPut, accessRequests+"/"+url.PathEscape(name), body, &made)
		return []armwire.AccessRequest{made}, err
	}, requestTable)
}

func requests() *cobra.Command {
	c := command.New("requests", "List the requests for resources of tier E0 and their states", "visage cmk requests")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) ([]armwire.AccessRequest, error) {
		var all armwire.AccessRequestList
		err := o.Provider(ctx, http.MethodGet, accessRequests, nil, &all)
		return all.Value, err
	}, requestTable)
}

// decide makes a command that changes the state of one request and sends body.
func decide(c *cobra.Command, body func() any) *cobra.Command {
	operator.Complete(c, operator.AccessRequests)
	return operator.Show(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) ([]armwire.AccessRequest, error) {
		var now armwire.AccessRequest
		err := o.Provider(ctx, http.MethodPost, accessRequests+"/"+url.PathEscape(args[0])+"/"+c.Name(), body(), &now)
		return []armwire.AccessRequest{now}, err
	}, requestTable)
}

// nothing is the body of a decision without one.
func nothing() any { return nil }

func approve() *cobra.Command {
	return decide(command.New("approve NAME",
		"Approve a request for an E0 resource. If the capacity is used up, it is queued and approved when a place "+
			"becomes free.",
		"visage cmk approve pilot"), nothing)
}

func withdraw() *cobra.Command {
	return decide(command.New("withdraw NAME", "Withdraw a request. Its place goes to the next in the queue.",
		"visage cmk withdraw pilot"), nothing)
}

func reject() *cobra.Command {
	reason := ""
	c := command.New("reject NAME", "Reject a request for an E0 resource, even after approval",
		"visage cmk reject pilot --reason \"the pilot has ended\"")
	c.Flags().StringVar(&reason, "reason", "", "`SENTENCE` for the requester")
	return decide(c, func() any { return armwire.Rejection{Reason: reason} })
}

func capacity() *cobra.Command {
	c := command.New("capacity [N|none]", "Show or set how many resources of tier E0 there may be",
		"visage cmk capacity 10")
	operator.Complete(c, func(context.Context, *operator.Client, *cobra.Command) ([]string, error) {
		return []string{"none"}, nil
	})
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Capacity, error) {
		var now armwire.Capacity
		if len(args) == 0 {
			err := o.Provider(ctx, http.MethodGet, accessCapacity, nil, &now)
			return now, err
		}
		var body armwire.CapacityBody
		if args[0] != "none" {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 {
				return now, command.Misuse(
					"the capacity must be a number from 0, or \"none\" for no limit; got %q", args[0])
			}
			body.Properties.Capacity = &n
		}
		err := o.Provider(ctx, http.MethodPut, accessCapacity, body, &now)
		return now, err
	}, func(t *command.Table, now armwire.Capacity) {
		p, limit := now.Properties, "none"
		if p.Capacity != nil {
			limit = strconv.Itoa(*p.Capacity)
		}
		t.Row("CAPACITY", "TAKEN", "QUEUED")
		t.Row(limit, p.Taken, p.Queued)
	})
}

func requestTable(t *command.Table, all []armwire.AccessRequest) {
	t.Row("NAME", "STATE", "REGION", "RESOURCE", "CONTACT", "NOTE")
	for _, r := range all {
		p := r.Properties
		if p.Position > 0 {
			p.State += fmt.Sprintf(" (%d)", p.Position)
		}
		t.Row(r.Name, p.State, command.Dash(p.Region), command.Dash(p.Account), p.Contact, command.Dash(p.Note))
	}
}
