package engine_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
)

// crowd is a world of n hosts and a runbook of tasks that each set a key everywhere.
func crowd(hosts, tasks int, latency time.Duration) (*world, *engine.Runbook) {
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("h%03d", i))
	}
	w := newWorld(names...)
	for _, m := range w.machines {
		m.latency = latency
	}
	var steps []engine.Step
	for i := range tasks {
		steps = append(steps, task(fmt.Sprintf("t%02d", i), kv{Key: fmt.Sprintf("k%02d", i), Value: "1"}))
	}
	return w, w.runbook(steps...)
}

func run(b *testing.B, w *world, rb *engine.Runbook, sinks ...event.Sink) {
	b.Helper()
	bus := event.NewBus(event.BusConfig{Run: "01RUN", Sinks: sinks})
	e := engine.New(engine.Config{Dial: w.dial, RunID: "01RUN", Bus: bus})
	p, problems := e.Plan(b.Context(), rb)
	if problems.HasErrors() {
		b.Fatal(problems)
	}
	if _, err := e.Apply(b.Context(), rb, p); err != nil {
		b.Fatal(err)
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

// What the engine itself costs for 100 hosts and 20 tasks, with a journal on disk: its peak of memory and its time.
func BenchmarkApply(b *testing.B) {
	var peak uint64
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w, rb := crowd(100, 20, 0)
		store := &journal.Store{Dir: b.TempDir()}
		j, err := store.Create(journal.Meta{Command: "apply"})
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		b.StartTimer()
		run(b, w, rb, j)
		b.StopTimer()
		runtime.ReadMemStats(&after)
		peak = max(peak, after.HeapSys-min(before.HeapIdle, after.HeapSys))
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(peak)/(1<<20), "heap-MiB")
}

// A runbook that changes nothing is one round trip, whatever its length.
func BenchmarkPlanNothing(b *testing.B) {
	w, rb := crowd(32, 15, 0)
	run(b, w, rb)
	w.trips()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		run(b, w, rb)
		n += w.trips()
	}
	b.ReportMetric(float64(n)/float64(b.N), "trips/host")
}

// At a distance every task costs one round trip, and no host waits for another one's within a task.
func BenchmarkApplyAtADistance(b *testing.B) {
	n := 0
	for b.Loop() {
		w, rb := crowd(10, 20, 10*time.Millisecond)
		run(b, w, rb)
		n += w.trips()
	}
	b.ReportMetric(float64(n)/float64(b.N), "trips/host")
}
