package journal_test

import (
	"context"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/journal"
	"github.com/stretchr/testify/require"
)

func TestARunWaitsForAnAnswer(t *testing.T) {
	store := &journal.Store{Dir: t.TempDir()}
	run, err := store.Create(journal.Meta{Command: "apply"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, run.Close()) })
	_, err = store.Answer(run.ID(), true, "ann@desk")
	var none *journal.NoQuestionError
	require.ErrorAs(t, err, &none)

	looks := 0
	answer, err := run.Ask(t.Context(), journal.Question{Number: 2, PID: 7, Host: "pve2"}, func(context.Context, time.Duration) error {
		looks++
		q, waiting := store.Waiting(run.ID())
		require.True(t, waiting)
		require.Equal(t, "pve2", q.Host)
		if looks == 3 {
			asked, err := store.Answer(run.ID(), true, "ann@desk")
			require.NoError(t, err)
			require.Equal(t, 2, asked.Number)
			_, err = store.Answer(run.ID(), false, "bob")
			require.ErrorAs(t, err, &none, "the first answer counts")
		}
		return nil
	})
	require.NoError(t, err)
	require.True(t, answer.Yes)
	require.Equal(t, "ann@desk", answer.By)
	require.Equal(t, 3, looks)
	_, waiting := store.Waiting(run.ID())
	require.False(t, waiting)
}

func TestAnAnswerToAnEarlierQuestionDoesNotCount(t *testing.T) {
	store := &journal.Store{Dir: t.TempDir()}
	run, err := store.Create(journal.Meta{Command: "apply"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, run.Close()) })
	ctx, cancel := context.WithCancel(t.Context())
	_, err = run.Ask(ctx, journal.Question{Number: 1, PID: 7}, func(ctx context.Context, _ time.Duration) error {
		_, err := store.Answer(run.ID(), true, "ann")
		require.NoError(t, err)
		cancel() // the process ends before it sees the answer
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	looks := 0
	_, err = run.Ask(t.Context(), journal.Question{Number: 1, PID: 8}, func(context.Context, time.Duration) error {
		if looks++; looks > 2 {
			return context.DeadlineExceeded
		}
		return nil
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
