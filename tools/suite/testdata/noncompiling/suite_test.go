package noncompiling_test

import . "github.com/onsi/ginkgo/v2"

var _ = It("does not compile", func() { undefinedHelper() })
