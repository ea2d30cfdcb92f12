package lab

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/lab/bmc"
)

// controller is the management controller of a host.
func (h *host) controller() (*bmc.Controller, error) {
	if h.bmc == nil {
		return nil, fmt.Errorf("%s has no management controller in this lab", h.spec.Name)
	}
	return h.bmc, nil
}

// killController lets a host's management controller fall silent. The host goes on.
func killController(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	c, err := h.controller()
	if err != nil {
		return nil, err
	}
	c.SetDead(true)
	return func() error { c.SetDead(false); return nil }, nil
}

// deafenController lets it say that it switches the power, and not do it.
func deafenController(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	c, err := h.controller()
	if err != nil {
		return nil, err
	}
	c.SetDeaf(true)
	return func() error { c.SetDeaf(false); return nil }, nil
}

// lockController gives it a user and a password that nobody knows.
func lockController(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	c, err := h.controller()
	if err != nil {
		return nil, err
	}
	user, password := c.SetLogin("somebody", "else's")
	return func() error { c.SetLogin(user, password); return nil }, nil
}

// swapControllers exchanges the addresses of two hosts' controllers.
func swapControllers(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	c, err := h.controller()
	if err != nil {
		return nil, err
	}
	other := l.net.host(f.Value)
	if other == nil {
		return nil, fmt.Errorf("no host %q in the lab", f.Value)
	}
	d, err := other.controller()
	if err != nil {
		return nil, err
	}
	l.bmcs.Swap(c, d)
	return func() error { l.bmcs.Swap(c, d); return nil }, nil
}
