package cli

import (
	"io"
	"log/slog"
	"os"
	"time"
)

// openLog starts the debug log of --log. It is for whoever looks for a mistake of pxrun; what happens to hosts is in
// the events. Everything in it passes the redactor.
func (a *app) openLog() (io.Closer, error) {
	if a.global.log == "" {
		a.logger = slog.New(slog.DiscardHandler)
		return io.NopCloser(nil), nil
	}
	f, err := os.OpenFile(a.global.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, invalid("--log: %w", err)
	}
	a.logger = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Value.Kind() == slog.KindString {
				attr.Value = slog.StringValue(a.secrets.Redact(attr.Value.String()))
			}
			return attr
		},
	}))
	return f, nil
}

// traceDial logs the steps of connecting, and the exchanges with connected hosts.
func (a *app) traceDial(host, step string, took time.Duration) {
	a.logger.Debug(step, "host", host, "took", took)
}
