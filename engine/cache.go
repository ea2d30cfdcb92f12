package engine

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/internal/transport"
)

// cache answers reads that were fetched ahead. Whatever may change the host empties it, also while the change is under
// way, so a read that may have seen the host before a change is never served after it.
type cache struct {
	conn

	mu      sync.Mutex
	age     uint64 // grows with every beginning and end of a mutation
	writing int    // mutations under way
	answers map[string]answer
	next    []command // reads that travel with the next mutating command
}

func newCache(c conn) *cache { return &cache{conn: c, answers: map[string]answer{}} }

// identity is what makes two reads the same question.
func identity(c command) string {
	var b strings.Builder
	part := func(s string) {
		b.WriteString(strconv.Itoa(len(s)))
		b.WriteByte(':')
		b.WriteString(s)
	}
	part(c.Script)
	part(string(c.Stdin))
	for _, a := range c.Argv {
		part(a)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		part(k + "=" + c.Env[k])
	}
	return b.String()
}

// prefetch fetches what is not there yet in one batch.
func (c *cache) prefetch(ctx context.Context, cs []command) error {
	var wanted []command
	seen := map[string]bool{}
	c.mu.Lock()
	age, writing := c.age, c.writing
	for _, q := range cs {
		id := identity(q)
		if _, known := c.answers[id]; known || seen[id] || q.Mutates || q.Own {
			continue
		}
		seen[id] = true
		wanted = append(wanted, q)
	}
	c.mu.Unlock()
	if len(wanted) == 0 {
		return nil
	}
	answers, err := c.conn.Batch(ctx, wanted)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age == age && writing == 0 {
		c.store(wanted, answers)
	}
	return nil
}

// store is called with mu held.
func (c *cache) store(qs []command, answers []answer) {
	for i := range min(len(qs), len(answers)) {
		c.answers[identity(qs[i])] = answers[i]
	}
}

// follow sends reads along with the next mutating command.
func (c *cache) follow(cs []command) {
	c.mu.Lock()
	c.next = cs
	c.mu.Unlock()
}

// forget drops all answers and what would follow.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age++
	c.next = nil
	clear(c.answers)
}

func (c *cache) lookup(q command) (answer, bool) {
	if q.Own {
		return answer{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[identity(q)]
	return a, ok
}

func (c *cache) Run(ctx context.Context, q command) (answer, error) {
	if q.Mutates {
		answers, err := c.write(ctx, []command{q})
		if len(answers) == 0 {
			return answer{}, err
		}
		return answers[0], err
	}
	if a, ok := c.lookup(q); ok {
		retell(q, a)
		return a, nil
	}
	return c.conn.Run(ctx, q)
}

func (c *cache) Batch(ctx context.Context, qs []command) ([]answer, error) {
	if slices.ContainsFunc(qs, func(q command) bool { return q.Mutates }) {
		return c.write(ctx, qs)
	}
	answers := make([]answer, len(qs))
	var missing []command
	var at []int
	for i, q := range qs {
		if a, ok := c.lookup(q); ok {
			retell(q, a)
			answers[i] = a
			continue
		}
		missing, at = append(missing, q), append(at, i)
	}
	if len(missing) == 0 {
		return answers, nil
	}
	got, err := c.conn.Batch(ctx, missing)
	for i := range min(len(got), len(at)) {
		answers[at[i]] = got[i]
	}
	return answers, err
}

// write runs commands of which one mutates, with the reads that follow it.
func (c *cache) write(ctx context.Context, qs []command) ([]answer, error) {
	c.mu.Lock()
	next := c.next
	c.next = nil
	c.mu.Unlock()
	mine := c.begin()
	var answers []answer
	var err error
	if len(qs)+len(next) == 1 {
		var a answer
		a, err = c.conn.Run(ctx, qs[0])
		answers = []answer{a}
	} else {
		answers, err = c.conn.Batch(ctx, slices.Concat(qs, next))
	}
	alone := c.end(mine)
	if err == nil && alone && len(answers) == len(qs)+len(next) {
		c.mu.Lock()
		if c.age == mine+1 {
			c.store(next, answers[len(qs):])
		}
		c.mu.Unlock()
	}
	return answers[:min(len(answers), len(qs))], err
}

func (c *cache) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age++
	c.writing++
	clear(c.answers)
	return c.age
}

// end reports whether no other mutation overlapped.
func (c *cache) end(mine uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	alone := c.age == mine && c.writing == 1
	c.age++
	c.writing--
	clear(c.answers)
	return alone
}

func (c *cache) Put(ctx context.Context, f transport.File) error {
	mine := c.begin()
	defer c.end(mine)
	return c.conn.Put(ctx, f)
}

// retell gives the lines of a cached answer to whoever listens for output.
func retell(q command, a answer) {
	if q.Output == nil {
		return
	}
	for stream, text := range [][]byte{transport.Stdout: a.Stdout, transport.Stderr: a.Stderr} {
		for line := range bytes.Lines(text) {
			q.Output(transport.Stream(stream), string(bytes.TrimSuffix(line, []byte("\n"))))
		}
	}
}
