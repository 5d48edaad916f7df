# cmake -DEXPECTED="6" -DCOMMAND="mpirun;..." -P exit_code_is.cmake: fails unless the command ends
# with this exit code (NONZERO: any but 0) within 20 seconds.
execute_process(COMMAND ${COMMAND} RESULT_VARIABLE code TIMEOUT 20)
if(code MATCHES "timeout")
  message(FATAL_ERROR "the job did not end: ${code}")
elseif(EXPECTED STREQUAL "NONZERO")
  if(code EQUAL 0)
    message(FATAL_ERROR "the job ended with 0")
  endif()
elseif(NOT code EQUAL EXPECTED)
  message(FATAL_ERROR "the job ended with ${code}, not ${EXPECTED}")
endif()
