package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	type holder struct {
		S secret.String
		t secret.Text
	}
	h := holder{secret.New("hunter2!"), secret.Hidden("hunter2!")}
	text, err := json.Marshal(h)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", h.S, "t", h.t)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s %q %x", h, h, h, h.S, h.S, h.S), fmt.Sprint(h.t), string(text), log.String()} {
		require.NotContains(t, shown, "hunter2!")
	}
	require.Equal(t, "hunter2!", h.S.Reveal())
	require.Equal(t, "shown", fmt.Sprint(secret.Plain("shown")))
	require.Empty(t, secret.String{}.String())
	require.False(t, secret.Text{}.Given())
	require.True(t, secret.Plain("").Given())
}

func TestIsFindsMarksAtAnyDepth(t *testing.T) {
	marked := cty.StringVal("x").Mark(secret.Mark)
	require.True(t, secret.Is(cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"a": marked})})))
	require.False(t, secret.Is(cty.StringVal("x").Mark("other")))
}

func TestRedactKnowsTheFormsOfASecret(t *testing.T) {
	const s = `it's "p@ss" & <wörd>/+`
	quoted, err := json.Marshal(map[string]string{"k": s})
	require.NoError(t, err)
	r := secret.NewRedactor(secret.New(s + "\n"))
	for name, text := range map[string]string{
		"raw":             "a " + s + " b",
		"with newline":    "a " + s + "\nb",
		"shell":           "echo " + shellescape.Quote(s),
		"json":            string(quoted),
		"go":              fmt.Sprintf("%q", s),
		"query":           "https://x/?p=" + url.QueryEscape(s),
		"path":            "https://x/" + url.PathEscape(s),
		"hex":             fmt.Sprintf("%x", s),
		"base64":          base64.StdEncoding.EncodeToString([]byte(s)),
		"base64 inside 1": base64.StdEncoding.EncodeToString([]byte("u" + s + "tail")),
		"base64 inside 2": base64.URLEncoding.EncodeToString([]byte("us" + s + "t")),
		"base64 inside 3": base64.StdEncoding.EncodeToString([]byte("user:" + s)),
	} {
		t.Run(name, func(t *testing.T) {
			got := r.Redact(text)
			require.Contains(t, got, secret.Masked)
			require.NotContains(t, got, "wörd")
			require.Less(t, len(got), len(text)-8, got)
		})
	}
}

func TestRedact(t *testing.T) {
	key := "-----BEGIN KEY-----\nAAAABBBB\nCCCCDDDD\n}\n-----END KEY-----\n"
	for _, tt := range []struct {
		name    string
		secrets []string
		text    string
		want    string
	}{
		{"none", nil, "abc", "abc"},
		{"empty secret", []string{"", " "}, "a b", "a b"},
		{"longest first", []string{"pass", "password"}, "password pass", "(secret) (secret)"},
		{"overlapping", []string{"abcd", "cdef"}, "xabcdefx", "x(secret)x"},
		{"adjacent", []string{"abcd"}, "abcdabcd", "(secret)(secret)"},
		{"a line of several", []string{key}, "got AAAABBBB and } -----END KEY-----", "got (secret) and } -----END KEY-----"},
		{"short as a word", []string{"42"}, "pin 42, not 420 or a42", "pin (secret), not 420 or a42"},
		{"short alone", []string{"x"}, "x", "(secret)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &secret.Redactor{}
			for _, s := range tt.secrets {
				r.Add(secret.New(s))
			}
			require.Equal(t, tt.want, r.Redact(tt.text))
		})
	}
}

func TestWriterGivesTheSameAsRedactHoweverTheTextIsSplit(t *testing.T) {
	alphabet := rapid.StringOfN(rapid.RuneFrom([]rune("ab1 '\n")), 1, 9, -1)
	rapid.Check(t, func(t *rapid.T) {
		r := &secret.Redactor{}
		secrets := rapid.SliceOfN(alphabet, 1, 3).Draw(t, "secrets")
		for _, s := range secrets {
			r.Add(secret.New(s))
		}
		pieces := rapid.SliceOf(rapid.OneOf(alphabet, rapid.SampledFrom(secrets))).Draw(t, "pieces")
		var out bytes.Buffer
		w := r.Writer(&out)
		for _, p := range pieces {
			n, err := w.Write([]byte(p))
			require.NoError(t, err)
			require.Equal(t, len(p), n)
		}
		require.NoError(t, w.Close())
		require.Equal(t, r.Redact(strings.Join(pieces, "")), out.String())
		for _, s := range secrets {
			if len(s) >= 4 && strings.TrimSpace(s) != "" {
				require.NotContains(t, out.String(), s)
			}
		}
	})
}

func TestWriterHoldsBackOnlyWhatMayBecomeASecret(t *testing.T) {
	var out bytes.Buffer
	w := secret.NewRedactor(secret.New("hunter2!")).Writer(&out)
	write := func(text, want string) {
		t.Helper()
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, out.String())
	}
	write("say hun", "say ")
	write("gry", "say hungry")
	write(" hunter", "say hungry ")
	write("2!.", "say hungry (secret).")
	write("hunt", "say hungry (secret).")
	require.NoError(t, w.Close())
	require.Equal(t, "say hungry (secret).hunt", out.String())
}

func TestWriterKeepsLittleOfAnEndlessOverlap(t *testing.T) {
	var out bytes.Buffer
	w := secret.NewRedactor(secret.New("aaaa")).Writer(&out)
	for range 1000 {
		_, err := w.Write([]byte(strings.Repeat("a", 1000)))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Equal(t, secret.Masked, out.String())
}

func TestSecretsMayBeAddedWhileOthersRedact(t *testing.T) {
	r := secret.NewRedactor()
	require.True(t, r.Empty())
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			s := fmt.Sprintf("topsecret%d", i)
			r.Add(secret.New(s))
			for range 50 {
				if got := r.Redact("a " + s); got != "a (secret)" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	group.Wait()
}

func FuzzRedactLeavesNoSecret(f *testing.F) {
	f.Add("hunter2!", "the password is hunter2! indeed", 20)
	f.Add("aaaa", "aaaaaaa", 3)
	f.Add("it's", `'it'"'"'s'`, 4)
	f.Fuzz(func(t *testing.T, s, text string, cut int) {
		if len(s) < 4 || strings.TrimSpace(s) == "" || strings.ContainsAny(s, secret.Masked) {
			return // the mask itself may then be read as the secret
		}
		r := secret.NewRedactor(secret.New(s))
		text += s + text
		if strings.Contains(r.Redact(text), s) {
			t.Fatalf("%q survived", s)
		}
		var out bytes.Buffer
		w := r.Writer(&out)
		at := min(max(cut, 0), len(text))
		for _, piece := range []string{text[:at], text[at:]} {
			if _, err := w.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != r.Redact(text) {
			t.Fatalf("split at %d: %q, whole: %q", at, out.String(), r.Redact(text))
		}
	})
}

func BenchmarkRedactWithoutSecrets(b *testing.B) {
	r := secret.NewRedactor()
	text := strings.Repeat("a line of output\n", 1000)
	for b.Loop() {
		r.Redact(text)
	}
}

func BenchmarkRedact(b *testing.B) {
	r := secret.NewRedactor(secret.New("hunter2!"), secret.New("correct horse battery staple"))
	text := strings.Repeat("a line of output\n", 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r.Redact(text)
	}
}
