//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// land is where the hosts of all tests live.
var land *world

// TestMain builds pxrun and the networks, and takes everything away afterwards. What an earlier run left behind because
// it was killed is taken away first.
func TestMain(m *testing.M) {
	flag.Parse()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("these tests make namespaces and mounts: run them as root")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lock := flock.New("/run/" + prefix + ".lock") // the names are the machine's, so one run at a time
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return 0, fmt.Errorf("another run of these tests does not end: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	// Most tests wait for time limits rather than work.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 0, err
	}
	if land, err = newWorld(); err != nil {
		return 0, err
	}
	defer func() {
		if failed := land.remove(); err == nil {
			err = failed
		}
	}()
	return m.Run(), nil
}
