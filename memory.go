package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How much garbage may lie about. Below heapFloor the collector has nothing to do: a small run would pay for collections
// of a heap that is small anyway. Above it collects earlier than usual, so that a controller of many hosts stays small.
const (
	heapFloor = 10 << 20
	gcPercent = 25
)

// runtimeMinimum is the heap below which Go does not collect at 100 percent; it goes with the percentage.
const runtimeMinimum = 4 << 20

// keepSmall sets the collector's percentage, and again after every collection.
func keepSmall() {
	debug.SetGCPercent(heapFloor * 100 / runtimeMinimum)
	afterCollection(heapFloor * 100 / runtimeMinimum)
}

// afterCollection adjusts the percentage when the next collection has ended: an object that nobody holds is gone then.
func afterCollection(now int) {
	type canary struct{ _ *byte }
	runtime.AddCleanup(&canary{}, func(struct{}) {
		next := percentFor(measure())
		if next != now {
			debug.SetGCPercent(next)
		}
		afterCollection(next)
	}, struct{}{})
}

// measure gives the bytes of the heap that are in use, and of what else the collector has to look at.
func measure() (live, roots uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64() + samples[2].Value.Uint64()
}

// percentFor is the percentage by which the heap is next collected at heapFloor, or by gcPercent above what lives, if
// that is more. Go reckons the percentage of all that it has to look at.
func percentFor(live, roots uint64) int {
	if live+roots == 0 || live >= heapFloor {
		return gcPercent
	}
	return max(gcPercent, int((heapFloor-live)*100/(live+roots)))
}
