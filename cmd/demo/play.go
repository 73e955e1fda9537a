package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"text/tabwriter"
	"time"

	"reparto/client"
	"reparto/internal/server"
)

// sample is a task of the demonstration, and how it must end.
type sample struct {
	by       string // "gRPC" or "text"
	function string
	payload  string
	want     string // the result, or with fails the message
	fails    bool
}

var samples = []sample{
	{"gRPC", "sum", "1,2,3,4,5", "15", false},
	{"gRPC", "sum", "123456789012345678901234567890,1", "123456789012345678901234567891", false},
	{"gRPC", "sum", "1,two,3", "invalid literal for int() with base 10: 'two'", true},
	{"gRPC", "echo", "hola", "hola", false},
	{"gRPC", "sleep", "250ms", "250ms", false},
	{"text", "sum", "10,20,30", "60", false},
	{"text", "sum", "1_000,-1", "999", false},
	{"text", "sum", "", "ERROR: invalid literal for int() with base 10: ''", false},
}

// played is how a sample ended.
type played struct {
	sample
	got    string
	worker string
	took   time.Duration
	err    error
}

// right reports whether the sample ended as it must.
func (p *played) right() bool { return p.err == nil && p.got == p.want }

// play runs all samples at once, by gRPC and by text, and prints how they ended.
// The error counts those that ended wrongly.
func play(ctx context.Context, s *server.Server, out io.Writer) error {
	c, err := client.Dial(s.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	results := make([]played, len(samples))
	var done sync.WaitGroup
	for i, p := range samples {
		done.Go(func() {
			start := time.Now()
			r := &results[i]
			r.sample = p
			if p.by == "gRPC" {
				r.byGRPC(ctx, c)
			} else {
				r.byText(ctx, s.Legacy().ClientAddr().String(), fmt.Sprintf("t%d", i+1))
			}
			r.took = time.Since(start)
		})
	}
	done.Wait()
	return report(out, results)
}

func (p *played) byGRPC(ctx context.Context, c *client.Client) {
	o, err := c.Submit(ctx, client.Task{Function: p.function, Payload: []byte(p.payload)})
	p.got, p.worker = string(o.Result), o.WorkerID
	if failed, ok := errors.AsType[*client.TaskError](err); ok && p.fails {
		p.got, p.worker, err = failed.Message, failed.WorkerID, nil
	}
	p.err = err
}

// byText speaks as the old clients do: one line there, one line back.
func (p *played) byText(ctx context.Context, address, id string) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		p.err = err
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	fmt.Fprintf(conn, "TASK|%s|%s\n", id, p.payload)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		p.err = err
		return
	}
	prefix := "RESULT|" + id + "|"
	if len(line) <= len(prefix) || line[:len(prefix)] != prefix {
		p.err = fmt.Errorf("%q came back, not %s…", line, prefix)
		return
	}
	p.got = line[len(prefix) : len(line)-1]
}

func report(out io.Writer, results []played) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "by\tfunction\tpayload\tresult\tworker\ttook")
	wrong := 0
	for i := range results {
		p := &results[i]
		got := p.got
		switch {
		case p.err != nil:
			got = "WRONG: " + p.err.Error()
		case !p.right():
			got = fmt.Sprintf("WRONG: %s, not %s", p.got, p.want)
		case p.fails:
			got = "fails, as it should: " + p.got
		}
		if !p.right() {
			wrong++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%v\n", p.by, p.function, p.payload, got, p.worker, p.took.Round(time.Millisecond))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d results were wrong", wrong, len(results))
	}
	return nil
}
