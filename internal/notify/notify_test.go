package notify_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/notify"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type box struct {
	mu       sync.Mutex
	sent     []string
	troubles []string
	err      error
}

func (b *box) send(_ context.Context, url secret.String, title, body string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, url.Reveal()+" | "+title+" | "+strings.ReplaceAll(body, "\n", " / "))
	return b.err
}

func (b *box) trouble(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, text)
}

func story(t *testing.T, s *notify.Sink, done event.RunDone) {
	t.Helper()
	for _, body := range []event.Body{
		event.RunStarted{Runbook: "weekly", Cluster: "lab", Tasks: 6, Hosts: []string{"pve1", "pve2"}},
		event.Paused{Reason: "waiting for the hours"},
		event.Paused{Reason: "an approval is needed before pve2", Answer: "pxrun approve 01RUN"},
		done,
	} {
		require.NoError(t, s.Handle(t.Context(), event.Event{Run: "01RUN", Body: body}))
	}
	require.NoError(t, s.Close())
}

func TestEveryoneIsToldOfWhatHeAskedFor(t *testing.T) {
	b := &box{}
	s := notify.New(notify.Options{
		Targets: []notify.Target{
			{Name: "team", URL: secret.New("a://"), On: []string{"started", "paused", "failed"}},
			{Name: "boss", URL: secret.New("b://"), On: []string{"failed", "leftover", "changed"}},
		},
		Send: b.send, Trouble: b.trouble,
	})
	story(t, s, event.RunDone{Status: event.Failed, Summary: event.Summary{
		Steps: []event.StepSummary{{Step: "weekly/evacuate", Hosts: []event.HostSummary{{Host: "pve2", Done: []string{"x"}, Error: "no room\nmore"}}}},
		Left:  []module.Undo{{Host: "pve1", Summary: "end the maintenance of pve2"}},
	}})
	failed := "pxrun: weekly on lab failed | weekly/evacuate on pve2: no room / 1 changes in 0s. / Left in place on pve1; to take it back: end the maintenance of pve2 / pxrun runs show 01RUN"
	require.Equal(t, []string{
		"a:// | pxrun: weekly on lab began | 6 tasks on pve1, pve2.",
		"a:// | pxrun: weekly on lab waits | an approval is needed before pve2. / pxrun approve 01RUN",
		"a:// | " + failed, "b:// | " + failed,
		"b:// | " + strings.Replace(failed, "failed |", "left something in place |", 1),
	}, b.sent)
	require.Empty(t, b.troubles)
}

func TestARunThatWorksAgainIsTold(t *testing.T) {
	b := &box{err: errors.New("503")}
	s := notify.New(notify.Options{Targets: []notify.Target{{Name: "team", URL: secret.New("a://"), On: []string{"recovered"}}}, Send: b.send, Failing: true, Trouble: b.trouble})
	story(t, s, event.RunDone{Status: event.Changed})
	require.Len(t, b.sent, 1)
	require.Contains(t, b.sent[0], "weekly on lab works again")
	require.Equal(t, []string{`notify "team": recovered was not told: 503`}, b.troubles)
}

// A webhook gets the message; an address that nobody serves is an error without the address, which may hold a token.
func TestSend(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text := make([]byte, 4096)
		n, _ := r.Body.Read(text)
		got = string(text[:n])
	}))
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	url := "generic+" + server.URL + "/hook?template=json"
	require.NoError(t, notify.Send(t.Context(), secret.New(url), "a title", "a body"))
	require.Contains(t, got, "a body")
	server.Close()
	err := notify.Send(t.Context(), secret.New(url), "a title", "a body")
	require.Error(t, err)
	require.NotContains(t, err.Error(), url)
	require.ErrorContains(t, notify.Send(t.Context(), secret.New("nonsense"), "a", "b"), "none that shoutrrr understands")
}
