package memory

import (
	"testing"

	"reparto/internal/store/storetest"
)

func TestPromise(t *testing.T) {
	for _, c := range storetest.Cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, storetest.Backend{Store: New()})
		})
	}
}
