package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// counted is a host whose reads tell how often it was changed. It notes the exchanges.
type counted struct {
	mu      sync.Mutex
	changes int
	trips   []string
	fail    error
	during  func() // called while a change is made
}

func (h *counted) one(c transport.Command) transport.Result {
	if c.Mutates {
		h.changes++
		if h.during != nil {
			h.mu.Unlock()
			h.during()
			h.mu.Lock()
		}
	}
	return transport.Result{Stdout: []byte(fmt.Sprintf("%s after %d\n", c, h.changes))}
}

func (h *counted) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	rs, err := h.Batch(ctx, []transport.Command{c})
	if err != nil {
		return transport.Result{}, err
	}
	return rs[0], nil
}

func (h *counted) Batch(_ context.Context, cs []transport.Command) ([]transport.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	var results []transport.Result
	for _, c := range cs {
		names = append(names, c.String())
	}
	h.trips = append(h.trips, strings.Join(names, ","))
	if h.fail != nil {
		return nil, h.fail
	}
	for _, c := range cs {
		results = append(results, h.one(c))
	}
	return results, nil
}

func (h *counted) Put(_ context.Context, f transport.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes++
	h.trips = append(h.trips, "put "+f.Path)
	return h.fail
}

func (h *counted) Get(_ context.Context, path string, w io.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trips = append(h.trips, "get "+path)
	_, err := io.WriteString(w, "content")
	return err
}

func (h *counted) Close() error { return nil }

func read(name string) transport.Command { return transport.Command{Argv: []string{name}} }
func change(name string) transport.Command {
	return transport.Command{Argv: []string{name}, Mutates: true}
}

func ask(t *testing.T, c transport.Conn, command transport.Command) string {
	t.Helper()
	r, err := c.Run(t.Context(), command)
	require.NoError(t, err)
	return r.Out()
}

func TestPrefetchAnswersManyTasksWithOneTrip(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a"), read("b"), read("a")}))
	require.Equal(t, "a after 0", ask(t, p, read("a")))
	require.Equal(t, "a after 0", ask(t, p, read("a")))
	require.Equal(t, "b after 0", ask(t, p, read("b")))
	require.Equal(t, []string{"a,b"}, h.trips)
	require.Equal(t, transport.PrefetchStats{Fetched: 2, Hits: 3, Trips: 1}, p.Stats())
}

func TestPollingSeesTheHostAndNotTheAnswerFetchedBefore(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("state")}))
	require.Equal(t, "state after 0", ask(t, p, read("state")))
	h.changes = 5 // the host changes by itself
	require.Equal(t, "state after 5", ask(t, p, read("state")))
}

func TestEveryChangeDropsTheAnswers(t *testing.T) {
	changes := map[string]func(p *transport.Prefetch) error{
		"run": func(p *transport.Prefetch) error { _, err := p.Run(t.Context(), change("x")); return err },
		"batch": func(p *transport.Prefetch) error {
			_, err := p.Batch(t.Context(), []transport.Command{read("y"), change("x")})
			return err
		},
		"put":    func(p *transport.Prefetch) error { return p.Put(t.Context(), transport.File{Path: "/x"}) },
		"forget": func(p *transport.Prefetch) error { p.Forget(); return nil },
	}
	for name, act := range changes {
		t.Run(name, func(t *testing.T) {
			h := &counted{}
			p := transport.NewPrefetch(h)
			require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a")}))
			require.NoError(t, act(p))
			r, err := p.Run(t.Context(), read("a"))
			require.NoError(t, err)
			require.False(t, r.Cached)
		})
	}
}

func TestFailedChangeDropsTheAnswersToo(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a")}))
	h.fail = errors.New("lost")
	_, err := p.Run(t.Context(), change("x"))
	require.ErrorContains(t, err, "lost")
	h.fail = nil
	r, err := p.Run(t.Context(), read("a"))
	require.NoError(t, err)
	require.False(t, r.Cached)
}

func TestFollowBringsTheProofInTheFlightOfTheChange(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	p.Follow([]transport.Command{read("proof"), read("next"), change("never")})
	require.Equal(t, "act after 1", ask(t, p, change("act")))
	require.Equal(t, "proof after 1", ask(t, p, read("proof")))
	require.Equal(t, "next after 1", ask(t, p, read("next")))
	require.Equal(t, []string{"act,proof,next"}, h.trips)

	p.Follow([]transport.Command{read("proof")})
	require.NoError(t, p.Put(t.Context(), transport.File{Path: "/f"}))
	require.Equal(t, "proof after 2", ask(t, p, read("proof")))
	require.Equal(t, []string{"act,proof,next", "put /f", "proof"}, h.trips)
}

func TestReadsMadeDuringAChangeAreNotKept(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	h.during = func() {
		require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a")}))
	}
	_, err := p.Run(t.Context(), change("x"))
	require.NoError(t, err)
	r, err := p.Run(t.Context(), read("a"))
	require.NoError(t, err)
	require.False(t, r.Cached)
}

func TestProofOfAChangeIsNotKeptWhileAnotherChangeGoesOn(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	nested := false
	h.during = func() {
		if nested {
			return
		}
		nested = true
		p.Follow([]transport.Command{read("proof")})
		ask(t, p, change("short"))
		r, err := p.Run(t.Context(), read("proof"))
		require.NoError(t, err)
		require.False(t, r.Cached, "the long change may have altered it since")
	}
	ask(t, p, change("long"))
	p.Follow([]transport.Command{read("proof")})
	ask(t, p, change("last"))
	r, err := p.Run(t.Context(), read("proof"))
	require.NoError(t, err)
	require.True(t, r.Cached, "nothing goes on any more")
}

func TestIdentityTellsCommandsApart(t *testing.T) {
	commands := []transport.Command{
		{}, {Argv: []string{""}}, {Argv: []string{"", ""}}, {Argv: []string{"a b"}}, {Argv: []string{"a", "b"}}, {Argv: []string{"1:a"}},
		{Script: "a"}, {Stdin: []byte("a")}, {Script: "a", Stdin: []byte("b")}, {Script: "ab"}, {Argv: []string{"a"}, Script: "1:b"},
		{Env: map[string]string{"a": "b"}}, {Env: map[string]string{"a": "", "b": ""}}, {Argv: []string{"a", "b"}, Env: map[string]string{"a": "b"}},
	}
	seen := map[string]int{}
	for i, c := range commands {
		other, twice := seen[c.Identity()]
		require.False(t, twice, "%d is %d", i, other)
		seen[c.Identity()] = i
	}
	a := transport.Command{Argv: []string{"x"}, Env: map[string]string{"a": "1", "b": "2"}, Timeout: 1}
	b := transport.Command{Argv: []string{"x"}, Env: map[string]string{"b": "2", "a": "1"}}
	require.Equal(t, a.Identity(), b.Identity())
}

func TestBatchOfReadsSendsOnlyWhatIsMissing(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a"), read("c")}))
	rs, err := p.Batch(t.Context(), []transport.Command{read("a"), read("b"), read("c"), read("d")})
	require.NoError(t, err)
	var got []string
	for _, r := range rs {
		got = append(got, r.Out())
	}
	require.Equal(t, []string{"a after 0", "b after 0", "c after 0", "d after 0"}, got)
	require.Equal(t, []string{"a,c", "b,d"}, h.trips)
	require.Equal(t, 2, p.Stats().Trips)
}

func TestCommandsOfDifferentIdentityAreNotMixedUp(t *testing.T) {
	base := transport.Command{Argv: []string{"a", "b"}}
	for _, other := range []transport.Command{
		{Argv: []string{"a b"}}, {Argv: []string{"a"}, Script: "b"}, {Argv: []string{"a", "b"}, Stdin: []byte("x")},
		{Argv: []string{"a", "b"}, Env: map[string]string{"A": "1"}}, {Argv: []string{"a", "b"}, Env: map[string]string{"A": ""}},
	} {
		require.NotEqual(t, base.Identity(), other.Identity())
	}
	require.Equal(t, base.Identity(), transport.Command{Argv: []string{"a", "b"}, Own: true}.Identity())
}

// A reader never sees a state that is older than the last change, whatever was fetched when.
func TestPrefetchIsNeverOlderThanTheLastChange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &counted{}
		p := transport.NewPrefetch(h)
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		names := rapid.SliceOf(name)
		commands := func(label string) (cs []transport.Command) {
			for _, n := range names.Draw(rt, label) {
				cs = append(cs, read(n))
			}
			return cs
		}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				require.NoError(rt, p.Prefetch(t.Context(), commands("prefetch")))
			case 1:
				p.Follow(commands("follow"))
			case 2:
				_, err := p.Run(t.Context(), change("x"))
				require.NoError(rt, err)
			default:
				n := name.Draw(rt, "read")
				r, err := p.Run(t.Context(), read(n))
				require.NoError(rt, err)
				require.Equal(rt, fmt.Sprintf("%s after %d", n, h.changes), r.Out())
			}
		}
	})
}

func TestCachedAnswersReplayTheirLines(t *testing.T) {
	p := transport.NewPrefetch(&counted{})
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a")}))
	var lines []string
	c := read("a")
	c.Output = func(_ transport.Stream, line string) { lines = append(lines, line) }
	ask(t, p, c)
	require.Equal(t, []string{"a after 0"}, lines)
}

func TestReadOnlyRefusesWhatWrites(t *testing.T) {
	h := &counted{}
	c := transport.ReadOnly(h)
	_, err := c.Run(t.Context(), change("rm"))
	require.ErrorContains(t, err, "refused while planning, because it changes the host: rm")
	_, err = c.Batch(t.Context(), []transport.Command{read("a"), change("rm")})
	require.ErrorAs(t, err, new(*transport.ReadOnlyError))
	require.ErrorAs(t, c.Put(t.Context(), transport.File{Path: "/x"}), new(*transport.ReadOnlyError))
	require.Empty(t, h.trips, "nothing was sent")
	require.Equal(t, "a after 0", ask(t, c, read("a")))
	require.NoError(t, c.Get(t.Context(), "/x", io.Discard))
}

func TestTraceReportsEveryCommand(t *testing.T) {
	h := &counted{}
	var seen []string
	note := func(e transport.Traced) {
		seen = append(seen, fmt.Sprintf("%s %s cached=%v err=%v", e.Host, e.Command, e.Result.Cached, e.Err))
	}
	p := transport.NewPrefetch(h)
	c := transport.Trace("pve1", note)(p)
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{read("a")}))
	ask(t, c, read("a"))
	_, err := c.Batch(t.Context(), []transport.Command{read("b"), change("x")})
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), transport.File{Path: "/f"}))
	require.NoError(t, c.Get(t.Context(), "/f", &bytes.Buffer{}))
	h.fail = errors.New("lost")
	_, err = c.Run(t.Context(), read("z"))
	require.Error(t, err)
	require.Equal(t, []string{
		"pve1 a cached=true err=<nil>", "pve1 b cached=false err=<nil>", "pve1 x cached=false err=<nil>",
		"pve1 put /f cached=false err=<nil>", "pve1 get /f cached=false err=<nil>", "pve1 z cached=false err=lost",
	}, seen)
}

func TestMiddlewaresAreConnections(t *testing.T) {
	testkit.TestConn(t, func(t *testing.T) transport.Conn {
		return transport.Trace("local", func(transport.Traced) {})(transport.NewPrefetch(testkit.NewLocal(t)))
	})
}

func TestExplainEndsWithWhatToDoNext(t *testing.T) {
	away := &transport.UnreachableError{Host: "pve1", Phase: "host key", Cause: errors.New("not known"), Hint: "compare the fingerprint"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("exit 1"), "exit 1"},
		{fmt.Errorf("look: %w", away), "look: pve1: host key: not known\ncompare the fingerprint"},
		{&transport.UnreachableError{Host: "pve1", Phase: "connect", Cause: errors.New("refused")}, "pve1: connect: refused"},
	} {
		if got := transport.Explain(test.err); got != test.want {
			t.Errorf("Explain(%v) = %q, want %q", test.err, got, test.want)
		}
	}
}
