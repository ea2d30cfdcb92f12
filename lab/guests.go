package lab

import (
	"context"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/lab/guest"
)

// Guests is the model of the lab's virtual machines and containers.
func (l *Lab) Guests() *guest.World { return l.guests }

// AddGuest puts a guest on a node. The node must be able to write to /etc/pve, and no guest of its cluster may have the id.
func (l *Lab) AddGuest(ctx context.Context, node string, s guest.Spec) error {
	return l.addGuests(ctx, node, []guest.Spec{s})
}

func (l *Lab) addGuests(ctx context.Context, node string, list []guest.Spec) error {
	h := l.guests.Host(node)
	if h == nil {
		return fmt.Errorf("%s is no Proxmox node", node)
	}
	return h.AddAll(ctx, list)
}

// RemoveGuest takes a guest away from a node.
func (l *Lab) RemoveGuest(node string, id int) error {
	h := l.guests.Host(node)
	if h == nil {
		return fmt.Errorf("%s is no Proxmox node", node)
	}
	return h.Remove(id)
}

// changeGuest does what the control socket asks for.
func (l *Lab) changeGuest(r Request) error {
	if r.Op == "guest-add" {
		return l.AddGuest(l.ctx, r.Node, *r.Guest)
	}
	return l.RemoveGuest(r.Node, r.Guest.ID)
}

// addGuests gives a host the guests of its spec.
func (h *host) addGuests() error {
	for _, s := range h.spec.Guests {
		if err := h.lab.AddGuest(h.lab.ctx, h.spec.Name, s); err != nil {
			return err
		}
	}
	return nil
}

// guestWords reads "ID key=value …" as the values of faults have it.
func guestWords(value string) (guest.Spec, error) {
	words := strings.Fields(value)
	if len(words) == 0 {
		return guest.Spec{}, fmt.Errorf("no guest is named")
	}
	return guest.ParseSpec(words[0], words[1:])
}
