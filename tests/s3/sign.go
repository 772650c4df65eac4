package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// Region is what MinIO calls its own unless told otherwise; pgBackRest is told the same.
const Region = "us-east-1"

// sign signs a request without a body by AWS Signature Version 4, for the service s3. Its
// path must need no escaping and its query be empty.
func sign(req *http.Request, key, secret string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	day := stamp[:8]
	empty := hexOf(sha256.New().Sum(nil))
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", empty)
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := strings.Join([]string{
		req.Method, req.URL.Path, "",
		"host:" + req.URL.Host, "x-amz-content-sha256:" + empty, "x-amz-date:" + stamp, "",
		signed, empty,
	}, "\n")
	scope := strings.Join([]string{day, Region, "s3", "aws4_request"}, "/")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, scope, hexOf(sum[:])}, "\n")
	by := []byte("AWS4" + secret)
	for _, part := range strings.Split(scope, "/") {
		by = mac(by, part)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/"+scope+", SignedHeaders="+signed+", Signature="+hexOf(mac(by, text)))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
