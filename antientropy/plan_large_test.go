package antientropy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestLargePullBesideReaders: readers that miss documents, one after the other, do not keep a large document, and all pulls
// that wait behind it, from being asked for. Those that come meanwhile get their turn after it.
func TestLargePullBesideReaders(t *testing.T) {
	s := newStory()
	var log []string
	play := func(format string, a ...any) string {
		line := fmt.Sprintf(format, a...)
		out, err := s.play(line)
		if err != nil {
			t.Fatal(line, err)
		}
		text := strings.Join(out, "\n")
		log = append(log, line, text)
		return text
	}
	last := func() string { return strings.Join(log[max(0, len(log)-20):], "\n") }
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindAllStringSubmatch(strings.Join(log, "\n"), -1)
		if m == nil {
			t.Fatalf("no %s in\n%s", pattern, last())
		}
		return m[len(m)-1][1]
	}
	fetchCall := regexp.MustCompile(`call (\d+): fetch`)
	bucket := 1
	read := func() string {
		bucket = 1 + bucket%2
		m := fetchCall.FindStringSubmatch(play("want p=1 bucket=%d hash=%d", bucket, 1000+len(log)))
		if m == nil {
			return ""
		}
		return m[1]
	}
	answer := func(session int, what, with string) {
		play("answered call=%s took=1ms %s pulls=1 coverage=[1,100000]", find(fmt.Sprintf(`call (\d+): session %d %s`, session, what)), with)
	}

	play("options memory=16777216 limit=1048576")
	play("observe p=1 applied=100000 holes=[41000,60000] peers=b,c")
	play("compared call=1 took=1ms outcome=other index=100000 differ=0-3 docs=400 coverage=[1,100000]")
	play("marked p=1 buckets=4-255 healed=[1,100000]")
	for session := 1; session <= 3; session++ {
		answer(session, "lists", "")
	}
	answer(1, "pulls", "large=50000000")
	answer(3, "pulls", "")
	inFlight := read()
	answer(2, "pulls", "")
	for n := 0; ; n++ {
		if inFlight == "" || n == 30 {
			t.Fatalf("after %d fetches, one each 100 ms, the large pull is not sent; last:\n%s", n, last())
		}
		play("later 100ms")
		another := read() // before the one under way is answered
		out := play("fetched call=%s", inFlight)
		if strings.Contains(out, "session 1 pulls") {
			if n < 5 || fetchCall.MatchString(out) {
				t.Errorf("its turn came after %d fetches:\n%s", n, out)
			}
			break
		}
		inFlight = another
	}
	answer(1, "pulls", "")
	if !fetchCall.MatchString(log[len(log)-1]) {
		t.Errorf("the readers that waited got no turn:\n%s", last())
	}
}
