package lab

import (
	"context"

	"github.com/pxrun/pxrun/lab/hardware"
)

func bondMember(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	return func() error { return h.bonds.SetDown(f.Value, false) }, h.bonds.SetDown(f.Value, true)
}

func timeAway(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return hardware.Cut(h.chrony)
}
