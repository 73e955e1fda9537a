// Package freeport finds ports for programs that tests and benchmarks start, and that
// must know each other's addresses before they listen.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
)

// Ports are taken from below those that systems give to connections by themselves:
// whoever waits for a listener on one of those may otherwise connect to itself.
const (
	lowest = 15000
	ports  = 10000
)

// given are the addresses that Find has given out: who is to listen there may not do so
// yet.
var given sync.Map

// Find returns an address of 127.0.0.1 at which nobody listens, and which it has not
// given out before in this process. It fails when a hundred tries find none, and may be
// called concurrently.
//
// No process is started meanwhile: until it runs its program, it has all that this one
// listens at, and the port just tried would still be taken.
func Find() (string, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", lowest+rand.IntN(ports)))
		if err != nil {
			continue
		}
		if _, before := given.LoadOrStore(l.Addr().String(), true); !before {
			return l.Addr().String(), l.Close()
		}
		_ = l.Close() // somebody else's
	}
	return "", errors.New("no port is free from 15000 to 24999")
}
