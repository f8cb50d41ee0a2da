package setupfails_test

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = SynchronizedBeforeSuite(func() []byte {
	Expect("refused").To(Equal("accepted"), "the workload's health endpoint")
	return nil
}, func([]byte) {})

var _ = Describe("after set-up", func() {
	It("is never reached", func() {})
})
