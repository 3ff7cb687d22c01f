# What C may know of the names in trails.py, for scripts/compile-walk. Nothing here says what is done: that is in trails.py, compiled or not.
cimport cython

cdef object _UNTRANSLATED, _TRANSLATED, DEFAULT, Outcome, Sources, Transaction, astuple
cdef int PR, PW, PX, UR, UW, UX


@cython.final
cdef class Check:
    # A view is 208 bytes of which the first are looked at: behind the rest, all that counts is in one line of a cache.
    cdef Py_ssize_t index
    cdef unsigned long long held
    cdef const unsigned long long[::1] words


@cython.final
cdef class Trail:
    cdef tuple checks
    cdef long version
    cdef int shift
    cdef list grants
    cdef unsigned long long mask, first, output, offset, code
    cdef const unsigned long long[::1] words
    cdef object kinds


@cython.final
cdef class Ways:
    cdef readonly int shift
    cdef readonly object stage
    cdef readonly bint stage1
    cdef readonly dict trails, kinds


@cython.final
cdef class Plan:
    cdef readonly tuple ways
    cdef object override, privileged, instruction


@cython.final
cdef class Configured:
    cdef tuple checks, registers
    cdef long version
    cdef Plan plan


@cython.final
cdef class Follower:
    cdef object registers, configuration, pages, learner, sids
    cdef dict streams

    @cython.locals(
        contexts=dict, known=dict, plan=Plan, ways=Ways, trail=Trail, check=Check, version=long, need=int, size=int,
        address="unsigned long long", word="unsigned long long",
    )
    cpdef translate(self, transaction)

    @cython.locals(known=Configured, check=Check)
    cdef Plan _configured(self, sid, ssid)


@cython.locals(follower=Follower)
cpdef translate(self, transaction, bint trace=*)
