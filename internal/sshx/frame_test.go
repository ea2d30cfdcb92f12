package sshx

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cutAll feeds a stream in pieces and returns the output, the status and the rest.
func cutAll(marker string, pieces [][]byte) (out []byte, status int, rest []byte, done bool, err error) {
	c := newCutter(marker)
	for i, p := range pieces {
		rest, status, done, err = c.feed(p, func(p []byte) { out = append(out, p...) })
		if err != nil {
			return out, status, nil, done, err
		}
		if done {
			return out, status, append(bytes.Clone(rest), bytes.Join(pieces[i+1:], nil)...), true, nil
		}
	}
	return out, 0, nil, false, nil
}

// However the network cuts the stream, and whatever the output looks like, it comes out as it went in.
func TestFramesSurviveEveryCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		marker := "pxrun-0123"
		piece := rapid.OneOf(rapid.Just("\x01"), rapid.Just("\x01pxrun-"), rapid.Just("\x01pxrun-0123"), rapid.Just("\n"), rapid.Just(" 0\n"), rapid.String())
		output := []byte(strings.Join(rapid.SliceOf(piece).Draw(rt, "output"), ""))
		if bytes.Contains(output, []byte("\x01"+marker+" ")) {
			return // it would have guessed 128 random bits
		}
		status := rapid.IntRange(0, 255).Draw(rt, "status")
		after := rapid.SliceOf(rapid.Byte()).Draw(rt, "after")
		stream := append(bytes.Clone(output), fmt.Sprintf("\x01%s %d\n%s", marker, status, after)...)
		var pieces [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(rt, "n")
			pieces, stream = append(pieces, stream[:n]), stream[n:]
		}
		got, gotStatus, rest, done, err := cutAll(marker, pieces)
		require.NoError(rt, err)
		require.True(rt, done)
		require.Equal(rt, string(output), string(got))
		require.Equal(rt, status, gotStatus)
		require.Equal(rt, string(after), string(rest))
	})
}

func TestLinesAreNotHeldBack(t *testing.T) {
	c := newCutter(newMarker())
	var out []byte
	_, _, _, err := c.feed([]byte("a line\n"), func(p []byte) { out = append(out, p...) })
	require.NoError(t, err)
	require.Equal(t, "a line\n", string(out))
}

func TestGarbledStatusIsAnError(t *testing.T) {
	for _, text := range []string{"\x01m x\n", "\x01m 12345678901234567890", "\x01m -1\n", "\x01m \n"} {
		_, _, _, done, err := cutAll("m", [][]byte{[]byte(text)})
		require.False(t, done)
		require.ErrorContains(t, err, "garbled")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("out\x01m 0\nrest"), 3)
	f.Add([]byte("\x01\x01m \x01m 7\n"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 || size > len(stream) {
			size = max(1, len(stream))
		}
		var pieces [][]byte
		for p := stream; len(p) > 0; p = p[min(size, len(p)):] {
			pieces = append(pieces, p[:min(size, len(p))])
		}
		whole, status, rest, done, err := cutAll("m", [][]byte{stream})
		out, status2, rest2, done2, err2 := cutAll("m", pieces)
		if done != done2 || status != status2 || done && (!bytes.Equal(whole, out) || !bytes.Equal(rest, rest2)) || (err == nil) != (err2 == nil) {
			t.Fatalf("cut by %d: %q %d %q %v %v; whole: %q %d %q %v %v", size, out, status2, rest2, done2, err2, whole, status, rest, done, err)
		}
	})
}

func TestCaptureKeepsHeadAndTail(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var c capture
		var all []byte
		for range rapid.IntRange(0, 12).Draw(rt, "writes") {
			p := bytes.Repeat([]byte{byte(rapid.IntRange('a', 'z').Draw(rt, "b"))}, rapid.IntRange(0, 700_000).Draw(rt, "n"))
			c.write(p)
			all = append(all, p...)
		}
		got := c.bytes()
		if len(all) <= transport.OutputLimit {
			require.True(rt, bytes.Equal(all, got))
			require.Zero(rt, c.dropped)
			return
		}
		require.True(rt, bytes.Equal(all[:half], got[:half]))
		require.True(rt, bytes.Equal(all[len(all)-half:], got[half:]))
		require.EqualValues(rt, len(all)-len(got), c.dropped)
		require.LessOrEqual(rt, cap(c.tail), 4*half)
	})
}

func TestVeryLongLinesArriveInPieces(t *testing.T) {
	var lines []string
	s := lineSplitter{emit: func(l string) { lines = append(lines, l) }}
	s.write(bytes.Repeat([]byte("x"), 3*maxLine))
	s.write([]byte("end\nnext"))
	s.flush()
	require.Equal(t, []int{maxLine, maxLine, maxLine, 3, 4}, []int{len(lines[0]), len(lines[1]), len(lines[2]), len(lines[3]), len(lines[4])})
}
