package crashing_test

import . "github.com/onsi/ginkgo/v2"

var _ = Describe("crashing", func() {
	It("panics where Ginkgo cannot see it", func() {
		go panic("out of reach")
		select {}
	})
})
