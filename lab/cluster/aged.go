package cluster

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// isAged reports whether a file holds the time at which a daemon of the HA manager wrote it, by which others judge whether
// that daemon lives.
func isAged(p string) bool {
	return p == "/ha/manager_status" || strings.HasPrefix(p, "/nodes/") && strings.HasSuffix(p, "/lrm_status")
}

// aged is a file whose timestamp lies as far back as the write does on the lab's clock. The clock of the nodes shows the
// time of day even in a fast lab: without this, a daemon that died a minute ago would look alive for a real minute. The
// caller holds the lock.
func (w *World) aged(i *inode) []byte {
	if i.writtenWall.IsZero() {
		return i.data
	}
	shift := (w.clock.Elapsed() - i.written) - w.now().Sub(i.writtenWall)
	seconds := int64(shift / time.Second)
	key := []byte(`"timestamp":`)
	at := bytes.LastIndex(i.data, key)
	if seconds == 0 || at < 0 {
		return i.data
	}
	start := at + len(key)
	end := start
	for end < len(i.data) && i.data[end] >= '0' && i.data[end] <= '9' {
		end++
	}
	stamp, err := strconv.ParseInt(string(i.data[start:end]), 10, 64)
	if err != nil {
		return i.data
	}
	out := append([]byte(nil), i.data[:start]...)
	out = strconv.AppendInt(out, max(0, stamp-seconds), 10)
	return append(out, i.data[end:]...)
}
