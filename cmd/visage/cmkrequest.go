package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// accessRequest is a request to use customer-managed keys, as the management plane writes it.
type accessRequest struct {
	Name       string `json:"name"`
	Properties struct {
		Service  string `json:"service"`
		Region   string `json:"region,omitempty"`
		Contact  string `json:"contact"`
		Reason   string `json:"reason"`
		State    string `json:"state"`
		Note     string `json:"note,omitempty"`
		Position int    `json:"queuePosition,omitempty"`
		Account  string `json:"account,omitempty"`
		Created  string `json:"submittedAt"`
		Changed  string `json:"changedAt"`
	} `json:"properties"`
}

// accessCapacity is how much space there is for E0 resources.
type accessCapacity struct {
	Properties struct {
		Capacity *int `json:"capacity"`
		Taken    int  `json:"taken"`
		Queued   int  `json:"queued"`
	} `json:"properties"`
}

const accessRequests = "/accessRequests"

func cmkRequestCommand() command {
	var opts struct{ region, contact, reason string }
	return resourceCommand(command{
		name: "cmk request", args: "[NAME]",
		summary: "Ask for a resource of tier E0, whose data can be under a key of the customer's own.",
		example: "visage cmk request pilot --contact ann@example.org --reason \"pilot of the front desk\"",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.region, "region", "", "location of the resource (default: any)")
		fs.StringVar(&opts.contact, "contact", "", "whom the operator answers")
		fs.StringVar(&opts.reason, "reason", "", "what it is for")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if opts.contact == "" || opts.reason == "" {
			return nil, &failure{err: fmt.Errorf("--contact and --reason are needed: the operator decides by them"),
				code: exitUsage,
				hint: "\"visage help cmk request\" shows how it is called"}
		}
		name := "request-" + strings.ToLower(rand.Text()[:8])
		if len(args) == 1 {
			name = args[0]
		}
		body := map[string]any{"properties": map[string]string{
			"service": "Face", "region": opts.region, "contact": opts.contact, "reason": opts.reason,
		}}
		var made accessRequest
		err := c.provider(ctx, http.MethodPut, accessRequests+"/"+url.PathEscape(name), body, &made)
		return []accessRequest{made}, err
	}, printRequests)
}

func cmkRequestsCommand() command {
	return resourceCommand(command{
		name: "cmk requests", summary: "List the requests for resources of tier E0, and how far they have come.",
		example: "visage cmk requests",
	}, 0, nil, func(ctx context.Context, c *client, _ []string) (any, error) {
		var all struct {
			Value []accessRequest `json:"value"`
		}
		err := c.provider(ctx, http.MethodGet, accessRequests, nil, &all)
		return all.Value, err
	}, printRequests)
}

// cmkDecision is a command that moves one request on.
func cmkDecision(verb, summary string, more func(*flag.FlagSet), body func() any) command {
	return resourceCommand(command{
		name: "cmk " + verb, args: "NAME", summary: summary, example: "visage cmk " + verb + " pilot",
	}, 1, more, func(ctx context.Context, c *client, args []string) (any, error) {
		var one accessRequest
		err := c.provider(ctx, http.MethodPost, accessRequests+"/"+url.PathEscape(args[0])+"/"+verb, body(), &one)
		return []accessRequest{one}, err
	}, printRequests)
}

func nobody() any { return nil }

func cmkApproveCommand() command {
	return cmkDecision(
		"approve", "Approve a request. Where there is no space it waits in the queue, and is approved when there is.",
		nil, nobody)
}

func cmkWithdrawCommand() command {
	return cmkDecision("withdraw", "Take a request back. Its place goes to the next in the queue.", nil, nobody)
}

func cmkRejectCommand() command {
	reason := ""
	return cmkDecision("reject", "Reject a request, also one that was approved.", func(fs *flag.FlagSet) {
		fs.StringVar(&reason, "reason", "", "a sentence for who asked")
	}, func() any { return map[string]string{"reason": reason} })
}

func cmkCapacityCommand() command {
	return resourceCommand(command{
		name: "cmk capacity", args: "[N|none]", summary: "Show or set how many resources of tier E0 there may be.",
		example: "visage cmk capacity 10",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var space accessCapacity
		const path = "/accessCapacity/E0"
		if len(args) == 0 {
			err := c.provider(ctx, http.MethodGet, path, nil, &space)
			return space, err
		}
		if args[0] != "none" {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 {
				return nil, &failure{err: fmt.Errorf("the capacity is %q; allowed: a number, none", args[0]),
					code: exitUsage}
			}
			space.Properties.Capacity = &n
		}
		err := c.provider(ctx, http.MethodPut, path, space, &space)
		return space, err
	}, func(w io.Writer, answer any) {
		space := answer.(accessCapacity).Properties
		capacity := "none"
		if space.Capacity != nil {
			capacity = strconv.Itoa(*space.Capacity)
		}
		fmt.Fprintf(w, "CAPACITY\tTAKEN\tQUEUED\n%s\t%d\t%d\n", capacity, space.Taken, space.Queued)
	})
}

func printRequests(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tSTATE\tREGION\tRESOURCE\tCONTACT\tNOTE\n")
	for _, r := range answer.([]accessRequest) {
		p := r.Properties
		if p.Position > 0 {
			p.State += fmt.Sprintf(" (%d)", p.Position)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, p.State, dash(p.Region), dash(p.Account), p.Contact,
			dash(p.Note))
	}
}
