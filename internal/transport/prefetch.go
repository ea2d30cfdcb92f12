package transport

import (
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Prefetch answers reads that were fetched beforehand, many in one round trip. It is for the reads that modules announce
// as probes: the engine fetches those of many tasks at once, and each task then asks for its own and finds it here.
//
// An answer is handed out as often as it was listed and then forgotten, so that a wait that polls with the same command
// sees the host and not a memory of it. Whatever changes the host drops all answers.
type Prefetch struct {
	next Conn

	mu      sync.Mutex
	answers map[string]*answer
	flights map[string]*flight // under way, of those who read together
	follow  []Command
	epoch   int // counts what may have changed the host; answers of an older epoch are not kept
	changes int // under way; nothing is kept meanwhile
	stats   PrefetchStats
}

type answer struct {
	result Result
	left   int
}

// PrefetchStats counts what a Prefetch did.
type PrefetchStats struct {
	// Fetched are commands sent ahead, Hits the reads answered from them, Misses the reads that had to be sent.
	Fetched, Hits, Misses int
	// Trips are the exchanges with the host: single commands, batches, transfers.
	Trips int
}

// NewPrefetch puts a Prefetch on a connection.
func NewPrefetch(next Conn) *Prefetch {
	return &Prefetch{next: next, answers: map[string]*answer{}}
}

// Identity tells commands apart: two with the same identity do the same thing to the same host. Every text in it stands
// behind its length, so that no two commands can look alike.
func (c Command) Identity() string {
	b := make([]byte, 0, len(c.Script)+len(c.Stdin)+32*(2+len(c.Argv)+2*len(c.Env)))
	text := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(append(b, ':'), s...)
	}
	b = append(strconv.AppendInt(b, int64(len(c.Env)), 10), ' ')
	if len(c.Env) > 0 {
		for _, name := range slices.Sorted(maps.Keys(c.Env)) {
			text(name)
			text(c.Env[name])
		}
	}
	b = append(strconv.AppendInt(b, int64(len(c.Argv)), 10), ' ')
	for _, word := range c.Argv {
		text(word)
	}
	text(c.Script)
	b = append(b, c.Stdin...)
	return string(b)
}

// Prefetch sends reads ahead in one round trip. A command that is listed several times is sent once and answers as many
// reads. Commands that have an answer waiting are not sent again. A command that mutates is refused.
func (p *Prefetch) Prefetch(ctx context.Context, cs []Command) error {
	for _, c := range cs {
		if c.Mutates {
			return &ReadOnlyError{Command: c.String()}
		}
	}
	send, uses, epoch := p.plan(cs)
	if len(send) == 0 {
		return nil
	}
	results, err := p.next.Batch(ctx, send)
	p.keep(send[:len(results)], results, uses, epoch)
	return err
}

// plan decides what must be sent, and how often each answer will be asked for.
func (p *Prefetch) plan(cs []Command) (send []Command, uses map[string]int, epoch int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	uses = map[string]int{}
	for _, c := range cs {
		id := c.Identity()
		if a := p.answers[id]; a != nil {
			a.left++
			continue
		}
		if uses[id]++; uses[id] == 1 {
			c.Output = nil // nobody listens yet
			send = append(send, c)
		}
	}
	p.stats.Fetched += len(send)
	if len(send) > 0 {
		p.stats.Trips++
	}
	return send, uses, p.epoch
}

// keep stores answers unless the host may have changed since they were asked for, or is changing.
func (p *Prefetch) keep(cs []Command, results []Result, uses map[string]int, epoch int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch != epoch || p.changes > 0 {
		return
	}
	for i, c := range cs {
		id := c.Identity()
		if a := p.answers[id]; a != nil {
			a.left += uses[id]
			continue
		}
		p.answers[id] = &answer{result: results[i], left: uses[id]}
	}
}

// take hands out an answer.
func (p *Prefetch) take(c Command) (Result, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := c.Identity()
	a := p.answers[id]
	if a == nil {
		p.stats.Misses++
		p.stats.Trips++
		return Result{}, false
	}
	if a.left--; a.left <= 0 {
		delete(p.answers, id)
	}
	p.stats.Hits++
	r := a.result
	r.Stdout, r.Stderr = slices.Clone(r.Stdout), slices.Clone(r.Stderr)
	r.Cached, r.Duration = true, 0
	return r, true
}

// Follow names reads to be sent in the same flight as the next command that mutates, right behind it: its proof, and
// what the next task will ask. Their answers wait as if they had been prefetched. It replaces what was named before.
func (p *Prefetch) Follow(cs []Command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follow = nil
	for _, c := range cs {
		if !c.Mutates {
			c.Output = nil
			p.follow = append(p.follow, c)
		}
	}
}

// Forget drops all answers, and what was to follow.
func (p *Prefetch) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
	p.answers = map[string]*answer{}
	p.follow = nil
}

// Stats returns the counts so far.
func (p *Prefetch) Stats() PrefetchStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// change drops all answers: the host is about to be changed, or has been. It returns the reads to follow, once each.
func (p *Prefetch) change() (follow []Command, uses map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch++
	p.changes++
	p.answers = map[string]*answer{}
	uses = map[string]int{}
	for _, c := range p.follow {
		id := c.Identity()
		if uses[id]++; uses[id] == 1 {
			follow = append(follow, c)
		}
	}
	p.follow = nil
	return follow, uses
}

// after ends a change. Reads that ran while it went on are not kept; those that followed it are, unless another change
// goes on.
func (p *Prefetch) after(follow []Command, results []Result, uses map[string]int) {
	p.mu.Lock()
	p.epoch++
	p.changes--
	p.answers = map[string]*answer{}
	epoch := p.epoch
	p.stats.Trips++
	p.stats.Fetched += len(follow)
	p.mu.Unlock()
	p.keep(follow[:len(results)], results, uses, epoch)
}

// Run answers a read from what was fetched, if it was.
func (p *Prefetch) Run(ctx context.Context, c Command) (Result, error) {
	if !c.Mutates {
		if r, ok := p.take(c); ok {
			replay(c, r)
			return r, nil
		}
		return p.next.Run(ctx, c)
	}
	follow, uses := p.change()
	if len(follow) == 0 {
		defer p.after(nil, nil, nil)
		return p.next.Run(ctx, c)
	}
	results, err := p.next.Batch(ctx, append([]Command{c}, follow...))
	if len(results) == 0 {
		p.after(nil, nil, nil)
		return Result{}, err
	}
	// The command itself has ended; that a read behind it failed shows when somebody asks for it.
	p.after(follow, results[1:], uses)
	return results[0], nil
}

// replay hands the lines of an answer to a listener, as if they came now.
func replay(c Command, r Result) {
	if c.Output == nil {
		return
	}
	for stream, out := range [][]byte{Stdout: r.Stdout, Stderr: r.Stderr} {
		for line := range strings.Lines(string(out)) {
			c.Output(Stream(stream), strings.TrimSuffix(line, "\n"))
		}
	}
}

// Batch answers the reads that were fetched and sends the rest. With a command that mutates the whole batch is sent.
func (p *Prefetch) Batch(ctx context.Context, cs []Command) ([]Result, error) {
	if slices.ContainsFunc(cs, func(c Command) bool { return c.Mutates }) {
		follow, uses := p.change()
		results, err := p.next.Batch(ctx, append(slices.Clone(cs), follow...))
		extra := max(0, len(results)-len(cs))
		p.after(follow, results[len(results)-extra:], uses)
		if extra > 0 || len(results) == len(cs) {
			return results[:len(cs)], nil
		}
		return results, err
	}
	return p.batchReads(ctx, cs)
}

func (p *Prefetch) batchReads(ctx context.Context, cs []Command) ([]Result, error) {
	results := make([]Result, len(cs))
	var send []Command
	var place []int
	for i, c := range cs {
		if r, ok := p.take(c); ok {
			replay(c, r)
			results[i] = r
			continue
		}
		send, place = append(send, c), append(place, i)
	}
	if len(send) == 0 {
		return results, nil
	}
	p.mu.Lock()
	p.stats.Trips -= len(send) - 1 // take counted one for each
	p.mu.Unlock()
	fresh, err := p.next.Batch(ctx, send)
	for i, r := range fresh {
		results[place[i]] = r
	}
	if err != nil && len(fresh) < len(send) {
		return results[:place[len(fresh)]], err
	}
	return results, nil
}

// Put changes the host. The reads that were to follow are fetched right behind it.
func (p *Prefetch) Put(ctx context.Context, f File) error {
	follow, uses := p.change()
	err := p.next.Put(ctx, f)
	if err != nil || len(follow) == 0 {
		p.after(nil, nil, nil)
		return err
	}
	results, _ := p.next.Batch(ctx, follow) // a read that failed shows when somebody asks for it
	p.after(follow[:len(results)], results, uses)
	return nil
}

// Get passes through.
func (p *Prefetch) Get(ctx context.Context, path string, w io.Writer) error {
	p.mu.Lock()
	p.stats.Trips++
	p.mu.Unlock()
	return p.next.Get(ctx, path, w)
}

// Close closes the connection below.
func (p *Prefetch) Close() error { return p.next.Close() }
