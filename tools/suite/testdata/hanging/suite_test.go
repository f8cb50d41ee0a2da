package hanging_test

import (
	"os"
	"os/exec"
	"strconv"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("hanging", func() {
	It("waits for a child that never ends", func() {
		child := exec.Command("sleep", "600")
		Expect(child.Start()).To(Succeed())
		Expect(os.WriteFile(os.Getenv("PID_FILE"), []byte(strconv.Itoa(child.Process.Pid)), 0o600)).To(Succeed())
		Expect(child.Wait()).To(Succeed())
	})
})
