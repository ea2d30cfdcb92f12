package lab

import (
	"context"
	"fmt"
)

// killController lets a host's management controller fall silent. The host goes on.
func killController(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	if h.bmc == nil {
		return nil, fmt.Errorf("%s has no management controller in this lab", h.spec.Name)
	}
	h.bmc.SetDead(true)
	return func() error { h.bmc.SetDead(false); return nil }, nil
}
