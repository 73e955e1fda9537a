package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

const (
	// longPoll is how long one call of Wait waits.
	longPoll = 30 * time.Second
	pageSize = 1000
)

// unary is a method of a stub.
type unary[Q, A any] func(context.Context, *Q, ...grpc.CallOption) (*A, error)

// ask makes one call that may be made twice without harm. While no balancer takes
// it, it tries again, for as long as the connect timeout. It ends at once with
// ctx, and with the Client.
func ask[Q, A any](ctx context.Context, c *Client, id string, call unary[Q, A], q *Q) (*A, error) {
	if c.isClosed() {
		return nil, c.errClosed(id)
	}
	wait := backoff.ExponentialBackOff{InitialInterval: 20 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5, MaxInterval: time.Second}
	limit, steady := longPoll+c.opt.connectTimeout, time.Second
	for since := time.Now(); ; {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, limit)
		halt := context.AfterFunc(c.life, cancel)
		var to peer.Peer
		// Waiting for a connection is this loop's business, so that the connect
		// timeout holds and errors say why there was none.
		answer, err := call(limited, q, grpc.WaitForReady(false), grpc.MaxCallRecvMsgSize(maxMessage), grpc.Peer(&to))
		halt()
		late := limited.Err() != nil && c.life.Err() == nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			return answer, nil
		case c.life.Err() != nil:
			return nil, c.errClosed(id)
		case ctx.Err() != nil:
			return nil, errContext(ctx, id)
		}
		e := fromStatus(err)
		e.TaskID = id
		if e.Code == codes.DeadlineExceeded && e.Reason == "" {
			if end, ok := ctx.Deadline(); ok && end.Before(began.Add(limit)) { // the balancer's clock was a little faster
				<-ctx.Done()
				return nil, errContext(ctx, id)
			}
			late = true
		}
		if late {
			return nil, c.errNoConnection(id, fmt.Errorf("it did not answer within %v", limit))
		}
		if e.Code != codes.Unavailable || e.Reason != "" && e.Reason != "DRAINING" {
			return nil, e
		}
		if to.Addr != nil && time.Since(began) > steady {
			// It had a connection: this break is a new one. A proxy that takes its time
			// to say that there is nobody looks the same, but not for ever.
			since, steady = time.Now(), 2*steady
		}
		if time.Since(since) >= c.opt.connectTimeout {
			return nil, c.errNoConnection(id, err)
		}
		if err := c.pause(ctx, id, max(wait.NextBackOff(), min(e.RetryAfter, c.opt.connectTimeout))); err != nil {
			return nil, err
		}
	}
}

// pause blocks for d; the error says what ended it before.
func (c *Client) pause(ctx context.Context, id string, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		if c.life.Err() != nil { // ctx may be the Client's own
			return c.errClosed(id)
		}
		return errContext(ctx, id)
	case <-c.life.Done():
		return c.errClosed(id)
	}
}

func (c *Client) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// pages goes through what fetch gets page by page. A page may be empty and yet
// have a next one.
func pages[W, T any](fetch func(token string) (page []W, next string, err error), convert func(W) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			page, next, err := fetch(token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, w := range page {
				if !yield(convert(w), nil) {
					return
				}
			}
			if token = next; token == "" {
				return
			}
		}
	}
}

// unsure marks an error whose task may be there or not.
func unsure(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	marked := *e
	marked.cause = errors.Join(e.cause, ErrFateUnknown)
	return &marked
}

// tooLarge reports whether the transport refused a message for its size.
func tooLarge(e *Error) bool {
	return e.Code == codes.ResourceExhausted && e.Reason == "" && strings.Contains(e.Message, "larger than max")
}
