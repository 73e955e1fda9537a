package auth

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a directory that looks when it is told.
type watched struct {
	*Directory
	dir string
	log bytes.Buffer
}

func watch(t *testing.T, text string) *watched {
	t.Helper()
	w := &watched{dir: t.TempDir()}
	w.write(t, text)
	d, err := Open(w.dir+"/auth.yaml", Options{Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.Directory = d
	return w
}

func (w *watched) write(t *testing.T, text string) { write(t, w.dir, "auth.yaml", text) }

// looks reports whether any of n looks at the files changed what is in force.
func (w *watched) looks(n int) bool {
	before := w.Changed()
	for range n {
		w.lookAgain()
	}
	select {
	case <-before:
		return true
	default:
		return false
	}
}

func (w *watched) logged(part string) int { return strings.Count(w.log.String(), part) }

func TestRevocation(t *testing.T) {
	const shopA = "principals:\n- {name: shop, submit: [sum], tokens: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']}\n"
	w := watch(t, shopA)
	abc := Credentials{Token: "abc"}
	expect(t, "at first", who(t, w.Directory, noon, abc), "shop")
	if w.looks(5) {
		t.Error("what did not change took effect")
	}
	w.write(t, strings.Replace(shopA, "sum", "echo", 1))
	if w.looks(1) {
		t.Error("a change took effect that might be half of it")
	}
	if before := w.Principal("shop"); !w.looks(1) || !w.Principal("shop").MaySubmit("echo") || w.Principal("shop").MaySubmit("sum") || !before.MaySubmit("sum") {
		t.Error("the change did not take effect, or changed a principal that is held")
	}
	w.write(t, "principals: [{name: shop}]\n")
	if !w.looks(2) {
		t.Error("the token's removal took no effect")
	}
	expect(t, "without its token", who(t, w.Directory, noon, abc), "BAD_TOKEN: none that is known")
	w.write(t, "principals: [{name: x}]\n")
	if !w.looks(2) || w.Principal("shop") != nil {
		t.Error("the principal is still there")
	}
	if w.looks(3) {
		t.Error("what did not change took effect again")
	}
	if w.logged("principals changed") != 3 {
		t.Errorf("logged: %s", &w.log)
	}
}

// TestHalfAFile: what is fine and not all there yet never takes effect.
func TestHalfAFile(t *testing.T) {
	w := watch(t, "principals:\n- name: a\n")
	all := "principals:\n- name: a\n- name: b\n- name: c\n"
	for _, end := range []int{len("principals:\n- name: a\n- name: b\n"), len(all) - 1} {
		w.write(t, all[:end])
		if w.looks(1) {
			t.Errorf("%q took effect", all[:end])
		}
	}
	w.write(t, all)
	if w.looks(1) || !w.looks(1) || w.Principal("c") == nil {
		t.Error("the whole took no effect, or too early")
	}
	for range 3 {
		w.write(t, "principals:\n- name: a\n")
		if w.looks(1) {
			t.Error("what is there at every other look took effect")
		}
		w.write(t, all)
		w.looks(1)
	}
	w.write(t, "principals:\n")
	w.looks(1)
	w.write(t, all)
	if w.looks(3) || w.logged("can't be used") != 0 {
		t.Errorf("what was as before took effect, or half of it was logged: %s", &w.log)
	}
}

// TestWhatWasSeenTakesEffect: a file that is written just when it is found changed
// can't slip in half of itself.
func TestWhatWasSeenTakesEffect(t *testing.T) {
	w := watch(t, "principals: [{name: a}]\n")
	w.write(t, "principals:\n- name: b\n- name: c\n")
	if w.settled() != nil {
		t.Error("one look is enough")
	}
	found := w.settled()
	w.write(t, "principals:\n- name: b\n")
	w.take(found)
	if w.Principal("b") == nil || w.Principal("c") == nil {
		t.Error("what took effect was seen once")
	}
	if w.looks(1) || !w.looks(1) || w.Principal("c") != nil {
		t.Error("what is there now took no effect, or too early")
	}
	if err := os.Remove(w.dir + "/auth.yaml"); err != nil {
		t.Fatal(err)
	}
	w.settled()
	found = w.settled()
	w.write(t, "principals: [{name: d}]\n")
	w.take(found)
	if w.Principal("d") != nil || w.logged("no such file") != 1 {
		t.Errorf("a file that was not there took effect: %s", &w.log)
	}
	if !w.looks(2) || w.Principal("d") == nil {
		t.Error("the file that is back took no effect")
	}
}

func TestBadFileLeavesTheOldInForce(t *testing.T) {
	w := watch(t, "principals: [{name: a}]\n")
	w.write(t, "principals: [{name: b, work: sum}]\n")
	if w.looks(10) || w.Principal("a") == nil || w.Principal("b") != nil {
		t.Error("it took effect")
	}
	if w.logged("work is text; want a list") != 1 {
		t.Errorf("logged: %s", &w.log)
	}
	w.write(t, "principals: []\n")
	if w.looks(10) || w.logged("nobody could do anything") != 1 {
		t.Errorf("another one that is bad: %s", &w.log)
	}
	if err := os.Remove(w.dir + "/auth.yaml"); err != nil {
		t.Fatal(err)
	}
	if w.looks(10) || w.Principal("a") == nil || w.logged("no such file") != 1 {
		t.Errorf("without a file: %s", &w.log)
	}
	w.write(t, "principals: [{name: b}]\n")
	if !w.looks(2) || w.Principal("a") != nil || w.Principal("b") == nil {
		t.Error("the good one took no effect")
	}
}

func TestKeysRotateInTheirFile(t *testing.T) {
	k := newKeys(t)
	w := &watched{dir: t.TempDir()}
	write(t, w.dir, "keys.json", k.set(t, "es"))
	w.write(t, oneIssuer)
	var err error
	if w.Directory, err = Open(w.dir+"/auth.yaml", Options{Log: slog.New(slog.NewTextHandler(&w.log, nil))}); err != nil {
		t.Fatal(err)
	}
	old, next := Credentials{Token: k.sign(t, "es", nil)}, Credentials{Token: k.sign(t, "new", nil)}
	expect(t, "the old key", who(t, w.Directory, noon, old), "shop")
	expect(t, "the new key, too early", who(t, w.Directory, noon, next), "BAD_TOKEN: does not have")
	write(t, w.dir, "keys.json", k.set(t, "es", "new"))
	if !w.looks(2) {
		t.Error("the new key took no effect")
	}
	expect(t, "the old key beside the new one", who(t, w.Directory, noon, old), "shop")
	expect(t, "the new key", who(t, w.Directory, noon, next), "shop")
	write(t, w.dir, "keys.json", "{}")
	if w.looks(5) || w.logged("is no JSON Web Key Set") != 1 {
		t.Errorf("keys that are none: %s", &w.log)
	}
	expect(t, "meanwhile", who(t, w.Directory, noon, old), "shop")
	write(t, w.dir, "keys.json", k.set(t, "new"))
	if !w.looks(2) {
		t.Error("the old key's end took no effect")
	}
	expect(t, "a remembered one of the old key", who(t, w.Directory, noon, old), "BAD_TOKEN: does not have")
	expect(t, "the new key alone", who(t, w.Directory, noon, next), "shop")
}

func TestRunLooks(t *testing.T) {
	w := watch(t, "principals: [{name: a}]\n")
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(w.dir+"/auth.yaml", Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		start := time.Now()
		w.write(t, "principals: [{name: b}]\n")
		<-d.Changed()
		if took := time.Since(start); took > time.Second {
			t.Errorf("a change took effect after %v; want two looks, 1s", took)
		}
		if d.Principal("b") == nil {
			t.Error("Changed is closed before the change is in force")
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}
