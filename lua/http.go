package lua

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxBody is how much of an answer is read.
const maxBody = 1 << 20

// web are the functions that ask servers.
func web(env Environment) []Func {
	options := Param{Name: "options", Type: typeTable, Optional: true, Doc: "how", Fields: []Param{
		{Name: "headers", Type: typeTable, Optional: true, Default: map[string]Value{}, Doc: "headers of the request, strings or secrets"},
		{Name: "timeout", Type: typeDuration, Optional: true, Default: 10 * time.Second, Doc: "how long the whole exchange may take"},
	}}
	address := Param{Name: "url", Type: typeText, Doc: "the address, http or https"}
	answer := []Param{{Name: "answer", Type: typeTable, Doc: "what the server said, whatever the status", Fields: []Param{
		{Name: "status", Type: typeNumber, Doc: "its status, such as 200"},
		{Name: "body", Type: typeText, Doc: "its body, of up to 1 MiB"},
		{Name: "headers", Type: typeTable, Doc: "its headers, under names such as Content-Type"},
	}}}
	const fails = "the server does not answer in time; the body is too long"
	return []Func{
		{
			Name: "http.get", Off: env.HTTP == nil, Doc: "Asks a server.", Params: []Param{address, options}, Returns: answer, Errors: fails,
			Example: `local status = http.get("http://192.0.2.80/health").status`,
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				return env.request(ctx, http.MethodGet, args[0].(string), nil, args[1].(map[string]Value))
			},
		},
		{
			Name: "http.post", Off: env.HTTP == nil, Doc: "Sends a server a text.",
			Params: []Param{address, {Name: "body", Type: typeText + "|" + typeSecret, Doc: "the text"}, options}, Returns: answer, Errors: fails,
			Example: `http.post("http://192.0.2.80/notes", json.encode({text = "done"}), {headers = {["Content-Type"] = "application/json"}})`,
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				return env.request(ctx, http.MethodPost, args[0].(string), strings.NewReader(hidden(args[1]).Reveal()), args[2].(map[string]Value))
			},
		},
	}
}

func (e Environment) request(ctx context.Context, method, address string, body io.Reader, options map[string]Value) ([]Value, error) {
	if e.HTTP == nil {
		return nil, errors.New("scripts may not make requests here")
	}
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, errors.New("argument 1 (url) is no address that begins with http:// or https://")
	}
	ctx, cancel := context.WithTimeout(ctx, options["timeout"].(time.Duration))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	for name, value := range options["headers"].(map[string]Value) {
		if hidden(value).Empty() {
			return nil, fmt.Errorf("headers: %s must be a string or a secret, and is %s", name, kindOf(value))
		}
		request.Header.Set(name, hidden(value).Reveal())
	}
	response, err := e.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxBody {
		return nil, fmt.Errorf("the answer has more than %s", size(maxBody))
	}
	headers := map[string]Value{}
	for name := range response.Header {
		headers[name] = response.Header.Get(name)
	}
	return []Value{map[string]Value{"status": response.StatusCode, "body": string(text), "headers": headers}}, nil
}
