package ha

import (
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/cluster"
)

// Site is the HA stacks of a world's nodes.
type Site struct {
	world  *cluster.World
	guests Guests

	manager    memory[*managerStatus]
	configs    memory[*configured]
	datacenter memory[datacenter]

	mu     sync.Mutex
	stacks map[string]*Stack
	lrms   map[string]*memory[*lrmStatus] // by the node that wrote it
	ignore []*string                      // words of commands that masters lose
}

// New makes a Site without nodes. guests does what the LRMs order.
func New(world *cluster.World, guests Guests) *Site {
	return &Site{world: world, guests: guests, stacks: map[string]*Stack{}, lrms: map[string]*memory[*lrmStatus]{}}
}

// Stack returns the HA stack of a node, or nil.
func (s *Site) Stack(node string) *Stack {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stacks[node]
}

func (s *Site) lrmMemory(node string) *memory[*lrmStatus] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lrms[node] == nil {
		s.lrms[node] = &memory[*lrmStatus]{}
	}
	return s.lrms[node]
}

// IgnoreCommands has masters lose the commands that contain a word, until undo is called.
func (s *Site) IgnoreCommands(word string) (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ignore = append(s.ignore, &word)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ignore = slices.DeleteFunc(s.ignore, func(one *string) bool { return one == &word })
	}
}

// lost reports whether a command is to be lost.
func (s *Site) lost(command string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.ignore, func(word *string) bool { return strings.Contains(command, *word) })
}
