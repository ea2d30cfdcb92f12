// Package bmc simulates the management controllers of servers and ipmitool, the program that talks to them.
package bmc

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
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
	machine *machine.Machine

	mu   sync.Mutex
	spec Spec
	dead bool
	deaf bool
}

// Add gives a machine a controller, and the device by which it talks to it.
func (n *Network) Add(m *machine.Machine, s Spec) *Controller {
	c := &Controller{spec: s, machine: m}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.controllers[s.Address] = c
	if dev, ok := m.FS.Mounted("/dev").(*vfs.Mem); ok {
		_ = dev.Device("/ipmi0", 0o600, func(int) (vfs.File, error) { return nil, syscall.EBUSY }) // ipmitool alone speaks its language
	}
	return c
}

// SetDead makes a controller silent, or lets it speak again.
func (c *Controller) SetDead(dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = dead
}

// SetDeaf makes a controller say that it does what it is asked, and do nothing.
func (c *Controller) SetDeaf(deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf = deaf
}

// SetLogin changes who may log in, and gives back who might before.
func (c *Controller) SetLogin(user, password string) (oldUser, oldPassword string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldUser, oldPassword = c.spec.User, c.spec.Password
	c.spec.User, c.spec.Password = user, password
	return oldUser, oldPassword
}

// Swap exchanges the addresses of two controllers, as when cables or notes were mixed up.
func (n *Network) Swap(a, b *Controller) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one, two := a.view(), b.view()
	a.setAddress(two.Address)
	b.setAddress(one.Address)
	n.controllers[two.Address], n.controllers[one.Address] = a, b
}

func (c *Controller) setAddress(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spec.Address = address
}

func (c *Controller) view() Spec {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spec
}

func (n *Network) find(address string) *Controller {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.controllers[address]
}

// of is the controller of a machine; nil without one.
func (n *Network) of(m *machine.Machine) *Controller {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.controllers {
		if c.machine == m {
			return c
		}
	}
	return nil
}

// The controller's times: a command that is not answered is repeated for a while, and a power cycle is off for some seconds.
const (
	answer   = 150 * time.Millisecond
	patience = 20 * time.Second
	cycleOff = 5 * time.Second
)

// Package is the Debian package with ipmitool, for a machine.
func (n *Network) Package(m *machine.Machine) machine.Package {
	return machine.Package{
		Name: "ipmitool", Version: "1.8.19-7", Description: "utility for IPMI control with kernel driver or LAN interface",
		Programs: map[string]machine.Program{"/usr/bin/ipmitool": func(ctx context.Context, p *machine.Proc) int { return n.ipmitool(ctx, m, p) }},
	}
}

// request is what the command line asks for.
type request struct {
	iface, host, user, password string
	verbose                     bool
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
		case "-v":
			r.verbose = true
		default:
			r.command = append(r.command, args[i])
		}
	}
	return r, nil
}

// ipmitool is the program of that name, as far as power and the network of controllers go.
func (n *Network) ipmitool(ctx context.Context, m *machine.Machine, p *machine.Proc) int {
	r, err := parse(p)
	if err != nil {
		return fail(p.Stderr, err.Error())
	}
	act, ok := r.act()
	if !ok {
		return fail(p.Stderr, "Invalid command: "+strings.Join(r.command, " "))
	}
	if r.iface == "open" {
		c := n.of(m)
		if _, err := p.View().Stat("/dev/ipmi0"); err != nil || c == nil {
			return fail(p.Stderr, "Could not open device at /dev/ipmi0 or /dev/ipmi/0 or /dev/ipmidev/0: No such file or directory")
		}
		return act(n, p, c)
	}
	if r.iface != "lanplus" && r.iface != "lan" {
		return fail(p.Stderr, "Error loading interface "+r.iface)
	}
	c := n.find(r.host)
	if c == nil || c.silent() {
		if n.clock.Sleep(ctx, patience) != nil {
			return 1
		}
		return fail(p.Stderr, noSession)
	}
	if n.clock.Sleep(ctx, answer) != nil {
		return 1
	}
	if s := c.view(); s.User != "" && (s.User != r.user || s.Password != r.password) {
		if r.verbose {
			fmt.Fprintln(p.Stderr, map[bool]string{true: "> RAKP 2 HMAC is invalid", false: "RAKP 2 message indicates an error : unauthorized name"}[s.User == r.user])
		}
		return fail(p.Stderr, noSession)
	}
	return act(n, p, c)
}

// noSession is all that the program says about a controller that is silent, and about one that does not know the user or the
// password, unless it is asked to say more.
const noSession = "Error: Unable to establish IPMI v2 / RMCP+ session"

// act is what the command line asks for.
func (r request) act() (func(*Network, *machine.Proc, *Controller) int, bool) {
	command := r.command
	if len(command) >= 2 && command[0] == "lan" && command[1] == "print" {
		return func(_ *Network, p *machine.Proc, c *Controller) int { return c.lan(p, command[2:]) }, true
	}
	if len(command) > 0 && command[0] == "chassis" {
		command = command[1:]
	}
	if len(command) != 2 || command[0] != "power" || !slices.Contains([]string{"status", "on", "off", "cycle", "reset", "soft"}, command[1]) {
		return nil, false
	}
	return func(n *Network, p *machine.Proc, c *Controller) int { return n.act(p, c, command[1]) }, true
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
func (n *Network) act(p *machine.Proc, c *Controller, what string) int {
	m := c.machine
	if what == "status" {
		state := "off"
		if m.Powered() {
			state = "on"
		}
		p.Printf("Chassis Power is %s\n", state)
		return 0
	}
	said := map[string]string{"on": "Up/On", "off": "Down/Off", "soft": "Soft", "cycle": "Cycle", "reset": "Reset"}[what]
	switch {
	case c.ignores():
	case what == "on":
		m.PowerOn()
	case what == "off":
		m.PowerOff()
	case what == "soft":
		m.Shutdown(false)
	case !m.Powered():
		return fail(p.Stderr, "Set Chassis Power Control to Cycle failed: Command not supported in present state")
	default:
		m.PowerOff()
		n.clock.AfterFunc(cycleOff, m.PowerOn)
	}
	p.Println("Chassis Power Control: " + said)
	return 0
}

func (c *Controller) ignores() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deaf
}
