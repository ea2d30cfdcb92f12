package sshx

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
	"golang.org/x/crypto/ssh/knownhosts"
)

func BenchmarkFrames(b *testing.B) {
	marker := newMarker()
	stream := append(bytes.Repeat([]byte("a line of ordinary output\n"), 40_000), "\x01"+marker+" 0\n"...)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		c := newCutter(marker)
		for p := stream; len(p) > 0; p = p[min(16<<10, len(p)):] {
			if _, _, _, err := c.feed(p[:min(16<<10, len(p))], func([]byte) {}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkFindAmongAThousandKnownHosts(b *testing.B) {
	signer, _ := newKey(b)
	var text strings.Builder
	for i := range 1000 {
		text.WriteString(knownhosts.Line([]string{fmt.Sprintf("node%d.example.org", i)}, signer.PublicKey()) + "\n")
	}
	lines := parseKnownHosts("known_hosts", []byte(text.String()))
	for b.Loop() {
		if len(find(lines, "node999.example.org:22").keys) != 1 {
			b.Fatal("not found")
		}
	}
}

func BenchmarkShellLine(b *testing.B) {
	c := transport.Command{Script: "systemctl is-active corosync; echo it\\'s", Argv: []string{"a b"}}
	for b.Loop() {
		_ = shellLine(c, "marker")
	}
}
