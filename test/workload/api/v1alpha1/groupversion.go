// Package v1alpha1 holds the types of the API group kubernaut.ai, version v1alpha1. It owns the shape of the objects and,
// through its markers, the schema by which the API server rejects invalid ones; it holds no behaviour.
// +kubebuilder:object:generate=true
// +groupName=kubernaut.ai
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

//go:generate go tool -modfile=../../../../tools.mod controller-gen object crd paths=. output:crd:dir=../../config/crd

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "kubernaut.ai", Version: "v1alpha1"}

// AddToScheme registers the types of this package with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &AIAnalysis{}, &AIAnalysisList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
