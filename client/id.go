package client

import (
	"bufio"
	"crypto/rand"
	"sync"

	"github.com/google/uuid"
)

// randomness is read in larger pieces than an id needs: a system call for each
// would cost more than the rest of it.
var randomness = struct {
	sync.Mutex
	*bufio.Reader
}{Reader: bufio.NewReader(rand.Reader)}

// newID makes a UUIDv7.
func newID() string {
	randomness.Lock()
	id, err := uuid.NewV7FromReader(randomness.Reader)
	randomness.Unlock()
	if err != nil { // crypto/rand never fails: it crashes the program instead
		panic(err)
	}
	return id.String()
}
