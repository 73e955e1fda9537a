//go:build linux && !race

package socket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// greedy makes this program one that computes for each byte that it is sent, until a
// timer tells it to stop, on the one processor that it has.
const greedy = "REPARTO_SOCKET_GREEDY"

func compute() {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Println(l.Addr())
	c, err := Listener(l).Accept()
	fail(err)
	b := make([]byte, 1)
	for {
		if _, err := c.Read(b); err == io.EOF {
			return
		}
		fail(err)
		var enough atomic.Bool
		time.AfterFunc(20*time.Millisecond, func() { enough.Store(true) })
		for !enough.Load() {
		}
		_, err = c.Write(b)
		fail(err)
	}
}

// The runtime's monitor sleeps when a program is idle, for a minute if there is no
// timer. If the read that ends that did not see to its waking, who computes would
// have the processor for as long.
func TestWhoComputesForLongGivesWay(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.CommandContext(t.Context(), self)
	program.Env = append(os.Environ(), greedy+"=1", "GOMAXPROCS=1")
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 1)
	for range 3 {
		for _, pause := range []time.Duration{0, slice / 2, slice, 2 * slice, 5 * slice} {
			time.Sleep(pause) // not to wait for something: how idle it is, is what matters
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(b); err != nil {
				t.Fatalf("after a pause of %v: %v", pause, err)
			}
		}
	}
	c.Close()
	if err := program.Wait(); err != nil {
		t.Error(err)
	}
}

// While there is something to read a timer is due, and who reads after a pause wakes
// the monitor.
func TestTheMonitorIsWokenAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookout()
		for range 3 {
			time.Sleep(slice)
			synctest.Wait() // the timer has fired
			if !l.expect() {
				t.Fatal("no timer is due, and the monitor was not woken")
			}
			for _, pause := range []time.Duration{0, slice/4 - 1, 1, slice / 4, slice / 2, slice - 1, slice - 1} {
				time.Sleep(pause)
				if l.expect() {
					t.Fatal("a timer is due, and the monitor was woken")
				}
				if !l.timer.Stop() {
					t.Fatal("no timer is due")
				}
				l.timer.Reset(slice - time.Since(l.start) + time.Duration(l.last.Load())) // as it was
			}
		}
	})
}
