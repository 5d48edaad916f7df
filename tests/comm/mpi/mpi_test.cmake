# A test that mpirun starts; only the exit code counts:
#   trireme_mpi_test(<test name> <ranks> <target> [arguments...])
# More ranks than cores is normal here, hence --oversubscribe and ranks that yield.
set(TRIREME_MPIRUN ${MPIEXEC_EXECUTABLE})
execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE mpirun_version ERROR_QUIET)
set(TRIREME_MPI_IS_OPEN_MPI OFF)
if(mpirun_version MATCHES "Open MPI|OpenRTE")
  set(TRIREME_MPI_IS_OPEN_MPI ON)
  list(APPEND TRIREME_MPIRUN --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
endif()

# Open MPI refuses to run as root unless it is told twice, and leaks by design.
set(TRIREME_MPI_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ASAN_OPTIONS=detect_leaks=0)

function(trireme_mpi_test name ranks target)
  add_test(NAME ${name} COMMAND ${TRIREME_MPIRUN} -n ${ranks} $<TARGET_FILE:${target}> ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120 PROCESSORS 2
    ENVIRONMENT "${TRIREME_MPI_ENVIRONMENT}")
endfunction()
