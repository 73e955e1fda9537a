package main

import (
	"testing"

	"reparto/internal/cli/clitest"
)

func TestTheDocumentedKeysAreTheFlags(t *testing.T) {
	clitest.Keys(t, newCommand(), reloadable)
}
