// Package bmc simulates the management controllers of servers and ipmitool, the program that talks to them.
package bmc

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
)

// Spec describes the management controller of a host.
type Spec struct {
	// Address is the controller's own; it answers whatever the host does.
	Address string `json:"address"`
	User    string `json:"user,omitempty"` // "" lets anybody in
	// Password is never written down.
	Password string `json:"-"`
}

// Network is all controllers of a lab. It is safe for concurrent use.
type Network struct {
	clock clock.Clock

	mu          sync.Mutex
	controllers map[string]*Controller // by address
}

// NewNetwork has no controllers yet.
func NewNetwork(c clock.Clock) *Network {
	return &Network{clock: c, controllers: map[string]*Controller{}}
}

// Controller is one management controller.
type Controller struct {
	spec    Spec
	machine *machine.Machine

	mu   sync.Mutex
	dead bool
}

// Add gives a machine a controller.
func (n *Network) Add(m *machine.Machine, s Spec) *Controller {
	c := &Controller{spec: s, machine: m}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.controllers[s.Address] = c
	return c
}

// SetDead makes a controller silent, or lets it speak again.
func (c *Controller) SetDead(dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = dead
}

func (n *Network) find(address string) *Controller {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.controllers[address]
}

// The controller's times: a command that is not answered is repeated for a while, and a power cycle is off for some seconds.
const (
	answer   = 150 * time.Millisecond
	patience = 20 * time.Second
	cycleOff = 5 * time.Second
)

// Package is the Debian package with ipmitool.
func (n *Network) Package() machine.Package {
	return machine.Package{
		Name: "ipmitool", Version: "1.8.19-7", Description: "utility for IPMI control with kernel driver or LAN interface",
		Programs: map[string]machine.Program{"/usr/bin/ipmitool": n.ipmitool},
	}
}

// request is what the command line asks for.
type request struct {
	iface, host, user, password string
	command                     []string
}

func parse(p *machine.Proc) (request, error) {
	r := request{iface: "open"}
	args := p.Args()
	for i := 0; i < len(args); i++ {
		value := func() string {
			i++
			if i < len(args) {
				return args[i]
			}
			return ""
		}
		switch args[i] {
		case "-I":
			r.iface = value()
		case "-H":
			r.host = value()
		case "-U":
			r.user = value()
		case "-P":
			r.password = value()
		case "-E":
			r.password = p.Env["IPMI_PASSWORD"]
		case "-f":
			text, err := p.View().ReadFile(value())
			if err != nil {
				return r, fmt.Errorf("Unable to open password file: %w", err) //nolint:staticcheck // the program's words
			}
			r.password, _, _ = strings.Cut(string(text), "\n")
		case "-N", "-R", "-L", "-C", "-p":
			value()
		default:
			r.command = append(r.command, args[i])
		}
	}
	return r, nil
}

// ipmitool is the program of that name, as far as power goes.
func (n *Network) ipmitool(ctx context.Context, p *machine.Proc) int {
	r, err := parse(p)
	if err != nil {
		return fail(p.Stderr, err.Error())
	}
	if len(r.command) > 0 && r.command[0] == "chassis" {
		r.command = r.command[1:]
	}
	if len(r.command) != 2 || r.command[0] != "power" || !slices.Contains([]string{"status", "on", "off", "cycle", "reset", "soft"}, r.command[1]) {
		return fail(p.Stderr, "Invalid command: "+strings.Join(r.command, " "))
	}
	if r.iface != "lanplus" && r.iface != "lan" {
		return fail(p.Stderr, "Could not open device at /dev/ipmi0 or /dev/ipmi/0 or /dev/ipmidev/0: No such file or directory")
	}
	c := n.find(r.host)
	if c == nil || c.silent() {
		if n.clock.Sleep(ctx, patience) != nil {
			return 1
		}
		return fail(p.Stderr, "Error: Unable to establish IPMI v2 / RMCP+ session")
	}
	if n.clock.Sleep(ctx, answer) != nil {
		return 1
	}
	if c.spec.User != "" && (c.spec.User != r.user || c.spec.Password != r.password) {
		return fail(p.Stderr, "Error: Unable to establish IPMI v2 / RMCP+ session")
	}
	return n.act(p, c.machine, r.command[1])
}

func (c *Controller) silent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func fail(w io.Writer, text string) int {
	fmt.Fprintln(w, text)
	return 1
}

// act does what is asked. Power that is on already stays on; a cycle of a machine that is off is refused.
func (n *Network) act(p *machine.Proc, m *machine.Machine, what string) int {
	switch what {
	case "status":
		state := "off"
		if m.Powered() {
			state = "on"
		}
		p.Printf("Chassis Power is %s\n", state)
		return 0
	case "on":
		m.PowerOn()
		p.Println("Chassis Power Control: Up/On")
	case "off":
		m.PowerOff()
		p.Println("Chassis Power Control: Down/Off")
	case "soft":
		m.Shutdown(false)
		p.Println("Chassis Power Control: Soft")
	default:
		if !m.Powered() {
			return fail(p.Stderr, "Set Chassis Power Control to Cycle failed: Command not supported in present state")
		}
		m.PowerOff()
		n.clock.AfterFunc(cycleOff, m.PowerOn)
		p.Println("Chassis Power Control: " + map[string]string{"cycle": "Cycle", "reset": "Reset"}[what])
	}
	return 0
}
