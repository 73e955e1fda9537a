package freeport

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// TestAPortIsFreeWhileProgramsStart: a program that is being started does not hold what
// was just found.
func TestAPortIsFreeWhileProgramsStart(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() error { return exec.Command(program, "-test.run=^$").Run() }
	// The first start of all tries something out in a process that no lock tells of.
	if err := start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var starting sync.WaitGroup
	for range 2 {
		starting.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := start(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	seen := map[string]bool{}
	for range 300 {
		address, err := Find()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Errorf("%s was given out twice", address)
		}
		seen[address] = true
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			continue
		}
		_ = l.Close()
	}
	close(over)
	starting.Wait()
}
