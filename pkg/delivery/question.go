package delivery

import (
	"bytes"
	"context"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

// Reply is what a receiver answered to something that is no event: a question (package arbiter).
type Reply struct {
	Status     int
	RetryAfter string
	// Body is its beginning; Whole says that it is all of it.
	Body  []byte
	Whole bool
}

// Question posts once to a hook's webhook, by the rules by which events are: no proxy, no
// redirects, a bounded answer, and no secret in any text. The headers, which are signed over
// the body, are made of the trimmed secret. An error says why there is no answer.
func Question(ctx context.Context, h *desired.Hook, version string, body, secret []byte, headers func(secret []byte) map[string]string) (Reply, error) {
	w := newWebhook(h, version)
	defer w.close()
	secret = bytes.TrimSpace(secret)
	resp, answer, f := w.post(ctx, headers(secret), body, secret)
	if f != nil {
		return Reply{}, f
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		f := w.judge(resp, answer)
		f.text = w.hider(secret)(f.text)
		return Reply{}, f
	}
	return Reply{
		Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After"),
		Body: answer[:min(len(answer), maxAnswer)], Whole: len(answer) <= maxAnswer,
	}, nil
}
