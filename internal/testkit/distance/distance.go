// Package distance stands for the way between two machines: it joins two connections so that every byte arrives half a round
// trip late. Only tests and benchmarks import it.
package distance

import (
	"net"
	"time"

	"github.com/sourcegraph/conc"
)

// parcel is what arrived together, and when it is due.
type parcel struct {
	data []byte
	due  time.Time
}

// inFlight bounds what is under way in one direction, in parcels.
const inFlight = 1024

// unread is how long what was sent last waits to be taken: a machine without power takes nothing any more.
const unread = 10 * time.Second

// Join carries bytes between two connections in both directions until both have ended, and closes them.
func Join(one, other net.Conn, rtt time.Duration) {
	var both conc.WaitGroup
	both.Go(func() { carry(one, other, rtt/2) })
	both.Go(func() { carry(other, one, rtt/2) })
	both.Wait()
}

// carry moves bytes in one direction. The end of the source arrives as late as everything else.
func carry(to, from net.Conn, half time.Duration) {
	parcels := make(chan parcel, inFlight)
	var delivery conc.WaitGroup
	delivery.Go(func() {
		for p := range parcels {
			<-time.After(time.Until(p.due))
			_, _ = to.Write(p.data) // the reader notices the end
		}
		_ = to.Close()
	})
	buf := make([]byte, 8<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			parcels <- parcel{append([]byte(nil), buf[:n]...), time.Now().Add(half)}
		}
		if err != nil {
			break
		}
	}
	close(parcels)
	_ = to.SetWriteDeadline(time.Now().Add(half + unread))
	delivery.Wait()
}

// Pipe makes a connection in memory whose ends are a round trip apart. wait returns when both ends have been closed.
func Pipe(rtt time.Duration) (near, far net.Conn, wait func()) {
	near, one := net.Pipe()
	other, far := net.Pipe()
	var wg conc.WaitGroup
	wg.Go(func() { Join(one, other, rtt) })
	return near, far, wg.Wait
}
