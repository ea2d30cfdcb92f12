package pve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPingAnswers(t *testing.T) {
	p, ok := ParsePing("--- 10.0.1.2 ping statistics --- 5 packets transmitted, 4 received, 20% packet loss, time 202ms rtt min/avg/max/mdev = 0.034/0.045/0.061/0.010 ms")
	require.True(t, ok)
	require.Equal(t, Ping{Sent: 5, Received: 4, Average: 45 * time.Microsecond, Max: 61 * time.Microsecond, Timed: true}, p)
	require.InDelta(t, 20, p.Lost(), 0.01)
	for _, bad := range []string{"", "rtt min/avg/max/mdev = a/b/c", "rtt min/avg/max/mdev = 1", "min/avg/max = 1/-5/3"} {
		p, ok := ParsePing(bad)
		require.False(t, ok || p.Timed, bad)
	}
	p, ok = ParsePing("5 packets transmitted, 4 received, +1 errors, 20% packet loss")
	require.True(t, ok)
	require.Equal(t, []int{5, 4}, []int{p.Sent, p.Received})
	_, ok = ParsePing("ping: connect: Network is unreachable")
	require.False(t, ok)
}

func FuzzPing(f *testing.F) {
	f.Add("5 packets transmitted, 5 received, 0% packet loss, time 202ms rtt min/avg/max/mdev = 0.034/0.045/0.061/0.010 ms")
	f.Fuzz(func(t *testing.T, answer string) {
		if p, _ := ParsePing(answer); p.Average < 0 || p.Max < 0 || p.Timed && p.Average > p.Max+time.Hour {
			t.Fatalf("%+v", p)
		}
	})
}
