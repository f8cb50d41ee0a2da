package panicking_test

import . "github.com/onsi/ginkgo/v2"

var _ = Describe("panicking", func() {
	It("writes to a nil map", func() {
		var m map[string]int
		m["x"] = 1
	})
})
